"""Compiled files are the same bytes whatever was compiled before them, beside them, and by whom."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import random
import signal
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.adapters.compilers import interpreter_version, piped, process_compiler
from envlock.adapters.compilers.wire import NUMBERED, WrongInterpreter, packed, unpacked, worker_source
from envlock.errors import WorldError
from envlock.layers.compiler import Source
from envlock.layers.target import Target
from tests.support.layers import HERE

TARGET = Target(python=HERE)
LENGTH = struct.Struct(">Q")


def real_sources(limit: int) -> list[Source]:
    """Return files of this interpreter's library and packages, the same ones each time."""
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    paths = sorted({path for root in roots for path in root.rglob("*.py")})
    return [Source(str(path), path.read_bytes()) for path in random.Random(7).sample(paths, min(limit, len(paths)))]


def digests(results: Sequence[bytes | None]) -> list[str]:
    return [hashlib.sha256(content).hexdigest() if content else "" for content in results]


def test_order_and_history_do_not_matter() -> None:
    sources = real_sources(1500)
    with process_compiler((sys.executable,), TARGET, cores=2) as compiler:
        batches = [sources[start : start + 50] for start in range(0, len(sources), 50)]
        with ThreadPoolExecutor(4) as pool:
            first = [one for batch in pool.map(compiler.compile, batches) for one in batch]
    assert first.count(None) < 30
    # A process with another past: other modules, another hash seed, the files in another order, each one twice.
    program = (
        "import asyncio, decimal, email, http.server, unittest, xml.dom.minidom, sys\n"
        f"exec(compile({worker_source()!r}, 'worker', 'exec'))"
    )
    shuffled = list(range(len(sources)))
    random.Random(1).shuffle(shuffled)
    batch = packed([sources[at] for at in shuffled])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        input=2 * (LENGTH.pack(len(batch)) + batch),
        capture_output=True,
        check=True,
        env={"PYTHONHASHSEED": "5"},
    )
    rest = done.stdout.partition(b"\n")[2]
    for _ in range(2):
        (length,) = LENGTH.unpack_from(rest)
        answer, rest = rest[LENGTH.size : LENGTH.size + length], rest[LENGTH.size + length :]
        second = unpacked(answer, len(sources))
        wrong = [
            sources[at].path
            for at, one in zip(shuffled, digests(second), strict=True)
            if one != digests([first[at]])[0]
        ]
        assert wrong == []


@settings(max_examples=50)
@given(st.data())
def test_an_answer_that_is_cut_off_is_no_answer(data: st.DataObject) -> None:
    whole = b"".join(struct.pack(">BI", 1, len(content)) + content for content in (b"abc", b"", b"defgh"))
    assert unpacked(whole, 3) == [b"abc", b"", b"defgh"]
    with pytest.raises(WorldError):
        unpacked(whole[: data.draw(st.integers(0, len(whole) - 1))], 3)


def test_what_is_known_to_depend_on_history() -> None:
    """Each of these came out differently in some process before ``_settled``."""
    texts = [
        "def f(x):\n    return x in {'kwargs', 'axis'}\ndef g(x):\n    return x in {'axis', 'kwargs'}\n",
        "X = 'é'\nY = ['.', 'é', b'x', '']\n",
        "class A:\n    def f(self):\n        class C: pass\n        return C, 'A.f', 'A.f.<locals>.C'\n",
        "f = lambda: '<lambda>'\n",
        "x = (1, ('a b', frozenset), 'a b', 2.5, -0.0, 0.0, 10**30)\n",
    ]
    sources = [Source(f"/x/{number}.py", text.encode()) for number, text in enumerate(texts)]
    results = []
    for order in (sources, sources[::-1], sources + sources[::-1]):
        with process_compiler((sys.executable,), TARGET, cores=1) as compiler:
            found = {}
            for source in order:
                found.setdefault(source.path, set()).add(compiler.compile([source])[0])
            results.append({path: frozenset(contents) for path, contents in found.items()})
    assert results[0] == results[1] == results[2]


def test_the_code_is_the_code() -> None:
    source = b"def f(x, *, y=(1, frozenset({2}))):\n    '''Doc.'''\n    return x in {'a', 'b'}, f.__qualname__, 'f'\n"
    with process_compiler((sys.executable,), TARGET, cores=1) as compiler:
        (content,) = compiler.compile([Source("/opt/x.py", source)])
    assert content is not None
    code = marshal.loads(content[16:])
    assert code.co_filename == "/opt/x.py"
    space: dict = {}
    exec(code, space)
    assert space["f"]("a") == (True, "f", "f")
    assert space["f"].__doc__ == "Doc."


def test_a_large_batch_is_shared_among_processes() -> None:
    sources = real_sources(200)
    with (
        process_compiler((sys.executable,), TARGET, cores=1) as alone,
        process_compiler((sys.executable,), TARGET, cores=3) as three,
    ):
        assert digests(three.compile(sources)) == digests(alone.compile(sources))
        (parent,) = [it for it in children_of(os.getpid(), having="PEP 552") if len(children_of(it)) == 3]
        assert all(cpu_seconds(child) > 0 for child in children_of(parent))
        for few in ([], sources[:1], sources[:2]):
            assert len(three.compile(few)) == len(few)


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_modules_of_the_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("queue", "struct", "types", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    assert interpreter_version(sys.executable) == HERE
    with process_compiler((sys.executable,), TARGET) as compiler:
        assert compiler.compile([Source("/x.py", b"x = 1")]) != [None]


def test_another_version_is_refused() -> None:
    with (
        pytest.raises(WrongInterpreter, match=r"3\.9\.1"),
        process_compiler((sys.executable,), Target(python="3.9.1")),
    ):
        pass


def test_a_program_that_is_no_interpreter(tmp_path: Path) -> None:
    for argv in (("/bin/false",), ("/no/such/program",)):
        with pytest.raises(WorldError), process_compiler(argv, TARGET):
            pass
    for greeting in ("[]", "{}", json.dumps(_greeting() | {"cores": "two"}), json.dumps(_greeting() | {"version": 3})):
        with pytest.raises(WrongInterpreter), process_compiler((program(tmp_path, f"echo '{greeting}'"),), TARGET):
            pass


def test_what_an_interpreter_complains_about_is_told(tmp_path: Path) -> None:
    path = program(tmp_path, "echo libpython is not there >&2")
    with pytest.raises(WorldError, match="did not start") as caught, process_compiler((path,), TARGET):
        pass
    assert caught.value.details == ("libpython is not there",)


def test_an_interpreter_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped, "_STARTING", 0.2)
    with pytest.raises(WorldError, match="did not start"), process_compiler((program(tmp_path, "sleep 60"),), TARGET):
        pass


def test_an_answer_to_nothing(tmp_path: Path) -> None:
    head = "".join(f"\\{byte:o}" for byte in NUMBERED.pack(7, 0))
    path = program(tmp_path, f"echo '{json.dumps(_greeting())}'; printf '{head}'; sleep 60")
    with process_compiler((path,), TARGET) as compiler, pytest.raises(WorldError, match="ended"):
        compiler.compile([Source("/x.py", b"")])


def program(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_ends_in_the_middle(tmp_path: Path) -> None:
    path = program(tmp_path, f"echo '{json.dumps(_greeting())}'; exit 1")
    with process_compiler((path,), TARGET) as compiler:
        for _ in range(2):
            with pytest.raises(WorldError, match="ended"):
                compiler.compile([Source("/x.py", b"a" * 1_000_000)])


def test_a_process_that_is_killed_is_told() -> None:
    """The one that answers for several, and one of those."""
    for children in (True, False):
        with process_compiler((sys.executable,), TARGET, cores=2) as compiler:
            assert compiler.compile([Source("/x.py", b"x = 1")]) != [None]
            (parent,) = children_of(os.getpid(), having="PEP 552")
            for process in children_of(parent) if children else [parent]:
                os.kill(process, signal.SIGKILL)
            with pytest.raises(WorldError, match="ended"):
                compiler.compile([Source(f"/{number}.py", b"x = 1" * 10_000) for number in range(4)])


def children_of(process: int, having: str = "") -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            its = int(path.read_text().rpartition(")")[2].split()[1]) == process
            if its and having.encode() in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
    return found


def _greeting() -> dict[str, object]:
    return {"version": HERE, "implementation": "cpython", "cache_tag": TARGET.cache_tag, "cores": 2}


def test_the_version_of_an_interpreter() -> None:
    assert interpreter_version(sys.executable) == HERE
    assert interpreter_version("/bin/false") == interpreter_version("/no/such/program") == ""
