"""Compiling with a base's own interpreter, and what pip and venv leave in a container of the base."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envlock.adapters.bases.empty import container_skeleton
from envlock.adapters.compilers import (
    ENVIRONMENT,
    PipedCompiler,
    piped,
    process_compiler,
    unpacked_interpreter,
    worker_argv,
)
from envlock.adapters.compilers.wire import WrongInterpreter
from envlock.adapters.engine import DockerEngine
from envlock.errors import WorldError
from envlock.layers.compiler import Source
from envlock.layers.make import LayerMaker
from envlock.layers.skeleton import skeleton_layer
from envlock.layers.store import LayerStore
from envlock.layers.target import Target
from envlock.lock.interpreter import probe
from envlock.ports import Container
from tests.integration.test_wheel_layer_pip import awkward
from tests.support.building import pip_bytes
from tests.support.engines import mark
from tests.support.layers import entries, saved
from tests.support.locks import make_base

pytestmark = pytest.mark.engine

BASES = ["envlock/base:py3.11", "envlock/base:py3.13"]


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    engine = DockerEngine(os.environ)
    yield engine
    engine.close()


@pytest.fixture(params=BASES, scope="module")
def base(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def container(base: str, engine: DockerEngine) -> Iterator[Container]:
    with engine.container(base) as opened:
        yield opened


@pytest.fixture(scope="module")
def target(container: Container) -> Target:
    return Target(python=probe(container).python.version)


@contextmanager
def compiling(engine: DockerEngine, base: str, target: Target, python: str = "python3") -> Iterator[PipedCompiler]:
    with (
        engine.piped(base, worker_argv([python]), env=ENVIRONMENT) as pipe,
        PipedCompiler(pipe, target) as compiler,
    ):
        yield compiler


@pytest.fixture
def compiler(engine: DockerEngine, base: str, target: Target) -> Iterator[PipedCompiler]:
    with compiling(engine, base, target) as it:
        yield it


def test_layers_are_what_pip_leaves_in_the_base(
    container: Container, compiler: PipedCompiler, target: Target, tmp_path: Path
) -> None:
    wheels, paths = saved(awkward(), tmp_path / "wheels")
    python = probe(container).python
    store = LayerStore(tmp_path / "store")
    layers = LayerMaker(store, compiler, target).make(wheels, fetch=lambda _: paths)

    base = make_base(python=python)
    skeleton = skeleton_layer(store, base, target, make=lambda venv: container_skeleton(container, base, venv))
    assert skeleton_layer(store, base, target, make=pytest.fail) == skeleton
    _pip_install(container, target, wheels, paths)
    theirs = _tree(container, python.executable, target.venv)
    ours = entries(store.layers.path(skeleton.key), below=target.venv)
    ours |= {name: entry for layer in layers for name, entry in _of(store, layer, target).items()}
    assert {name: (entry.kind, entry.mode, entry.target) for name, entry in ours.items()} == {
        name: (kind, mode, link) for name, (kind, mode, link, _) in theirs.items()
    }
    changed = {name for name, entry in ours.items() if (entry.content or b"").hex() != theirs[name][3]}
    assert {name for name in changed if not name.endswith(".pyc")} == set()
    for name in changed:
        content, other = ours[name].content or b"", bytes.fromhex(theirs[name][3])
        assert (content[:4], content[8:16]) == (other[:4], other[8:16])
        assert (content[4], other[4]) == (1, 3)


def _of(store: LayerStore, layer: object, target: Target) -> dict:
    return entries(store.layers.path(layer.key), below=target.venv)  # type: ignore[attr-defined]


def _pip_install(container: Container, target: Target, wheels: list, paths: dict[str, Path]) -> None:
    files: dict[str, bytes | Path] = {f"/tmp/w/{wheel.filename}": paths[wheel.sha256] for wheel in wheels}
    lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels]
    container.put(files | {"/tmp/pip.whl": pip_bytes(), "/tmp/requirements.txt": "".join(lines).encode()})
    done = container.run(
        [
            *(f"{target.venv}/bin/python", "-I", "/tmp/pip.whl/pip", "install", "--isolated", "--no-cache-dir"),
            *("--no-index", "--find-links", "/tmp/w", "--require-hashes", "--no-deps", "-r", "/tmp/requirements.txt"),
        ],
        env={"SOURCE_DATE_EPOCH": "0", "PIP_CONFIG_FILE": "/dev/null"},
    )
    assert done.exit_code == 0, done.stderr


_LIST = """
import json, os, stat, sys
found = {}
for folder, folders, files in os.walk(sys.argv[1]):
    for name in folders + files:
        path = os.path.join(folder, name)
        mode = os.lstat(path).st_mode
        kind = "link" if stat.S_ISLNK(mode) else "folder" if stat.S_ISDIR(mode) else "file"
        link = os.readlink(path) if kind == "link" else ""
        content = open(path, "rb").read().hex() if kind == "file" else ""
        found[os.path.relpath(path, sys.argv[1])] = (kind, stat.S_IMODE(mode), link, content)
print(json.dumps(found))
"""


def _tree(container: Container, python: str, folder: str) -> dict[str, tuple[str, int, str, str]]:
    done = container.run([python, "-c", _LIST, folder])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_a_batch_compiles_to_the_same_in_any_company(
    engine: DockerEngine, base: str, compiler: PipedCompiler, target: Target
) -> None:
    sources = [
        Source(f"/opt/venv/{number}.py", b"def f(x):\n    return x in {1, 'a', %d}\n" % number * 20)
        for number in range(90)
    ]
    sources.append(Source("/opt/venv/bad.py", b"def\n"))
    together = compiler.compile(sources)
    assert together[-1] is None
    assert None not in together[:-1]
    with compiling(engine, base, target) as alone:
        assert alone.compile(sources[::-1]) == together[::-1]
        assert list(alone.compile(sources[7:8])) == [together[7]]
        assert alone.compile([]) == []


def test_without_an_engine_the_bytes_are_the_same(engine: DockerEngine, tmp_path: Path) -> None:
    created = _docker("create", BASES[0], "true").strip()
    try:
        with subprocess.Popen(["docker", "export", created], stdout=subprocess.PIPE) as exported:
            subprocess.run(["tar", "-x", "-C", str(tmp_path)], stdin=exported.stdout, check=True)
        assert exported.returncode == 0
    finally:
        _docker("rm", created)
    argv, environment = unpacked_interpreter(tmp_path, "/usr/bin/python3")
    source = [Source("/opt/venv/x.py", b"# coding: big5\nX = {1, 'a b'}\n")]
    with engine.container(BASES[0]) as container:
        target = Target(python=probe(container).python.version)
    with (
        process_compiler(argv, target, environment=environment) as here,
        compiling(engine, BASES[0], target) as there,
    ):
        assert here.compile(source) == there.compile(source) != [None]
    with pytest.raises(WorldError, match="without an engine"):
        unpacked_interpreter(tmp_path / "etc", "/usr/bin/python3")


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def test_another_version_is_refused(engine: DockerEngine, base: str, target: Target) -> None:
    other = Target(python=target.minor + ".99")
    with pytest.raises(WrongInterpreter, match=f"{target.minor}.99"), compiling(engine, base, other):
        pass


def test_an_interpreter_that_is_not_there(engine: DockerEngine, base: str, target: Target) -> None:
    with pytest.raises(WorldError, match="/no/python") as caught, compiling(engine, base, target, python="/no/python"):
        pass
    assert caught.value.hint


def test_an_interpreter_that_says_nothing(
    engine: DockerEngine, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piped, "_STARTING", 1)
    with (
        engine.piped(BASES[0], ["sleep", "60"], env={}) as pipe,
        pytest.raises(WorldError, match="did not start"),
        PipedCompiler(pipe, target),
    ):
        pass


def test_what_an_interpreter_complains_about_is_told(engine: DockerEngine, target: Target) -> None:
    with (
        engine.piped(BASES[0], ["sh", "-c", "echo no library >&2"], env={}) as pipe,
        pytest.raises(WorldError, match="did not start") as caught,
        PipedCompiler(pipe, target),
    ):
        pass
    assert caught.value.details == ("no library",)


def _environment(name: str) -> str:
    """Return a container's environment; nothing of one, of a test beside, that has ended meanwhile."""
    argv = ["docker", "inspect", "--format", "{{json .Config.Env}}", name]
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout


def test_a_container_that_is_killed_is_told(engine: DockerEngine, base: str, target: Target) -> None:
    word = mark()
    with (
        engine.piped(base, worker_argv(["python3"]), env={**ENVIRONMENT, "WORD": word}) as pipe,
        PipedCompiler(pipe, target) as compiler,
    ):
        assert compiler.compile([Source("/x.py", b"x = 1")]) != [None]
        names = _docker("ps", "--quiet", "--filter", "label=envlock=pipe").split()
        (name,) = [name for name in names if word in _environment(name)]
        _docker("kill", name)
        with pytest.raises(WorldError, match="ended") as caught:
            compiler.compile([Source("/x.py", b"x = 1")])
    assert caught.value.hint
