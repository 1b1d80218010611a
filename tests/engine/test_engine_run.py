"""A user's command in an image."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.errors import EngineError, InputError, UnknownImage
from tests.support.engines import BASE, Docker, containers_with, context, mark

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    engine = DockerEngine(os.environ)
    yield engine
    engine.close()


def run(engine: DockerEngine, argv: list[str], *, image: str = BASE, **options: Any) -> tuple[int, bytes, bytes]:
    out, err = bytearray(), bytearray()
    settings: dict[str, Any] = {"env": {}, "volumes": {}, "network": None, "gpus": False, **options}
    code = engine.run(image, argv, on_output=lambda data, stderr: (err if stderr else out).extend(data), **settings)
    return code, bytes(out), bytes(err)


def test_output_and_exit_code_are_the_commands_own(engine: DockerEngine, docker: Docker) -> None:
    word = mark()
    assert run(engine, ["sh", "-c", f": {word}; echo out; echo err >&2; exit 42"]) == (42, b"out\n", b"err\n")
    assert containers_with(docker, word) == []


def test_all_output_comes(engine: DockerEngine) -> None:
    code, out, _ = run(engine, ["python3", "-c", "import os; [os.write(1, b'x' * 100000) for _ in range(100)]"])
    assert (code, len(out)) == (0, 10_000_000)


def test_environment_volume_network_and_user(engine: DockerEngine, tmp_path: Path) -> None:
    image = engine.build(context(f"FROM {BASE}\nUSER 1234\n"), platform="linux/amd64", on_line=lambda _: None)
    (tmp_path / "data").write_text("from outside")
    tmp_path.chmod(0o755)
    code = (
        "import os; print(os.getuid(), os.environ['A'], open('/data/data').read(), len(os.listdir('/sys/class/net')))"
    )
    try:
        done = run(
            engine,
            ["python3", "-c", code],
            image=image,
            env={"A": "b=c d"},
            volumes={str(tmp_path): "/data:ro"},
            network="none",
        )
    finally:
        engine.remove(image)
    assert done == (0, b"1234 b=c d from outside 1\n", b"")


def test_password_is_on_no_process_list(engine: DockerEngine) -> None:
    """Neither here nor on the engine's machine: where this is the same one, all processes are seen."""
    out: list[bytes] = []

    def look(data: bytes, _: bool) -> None:
        out.append(data)
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it may have ended meanwhile
                assert b"hunter22hunter22" not in process.read_bytes()

    code = "import os, time; print(len(os.environ['MLFLOW_TRACKING_PASSWORD']), flush=True); time.sleep(1)"
    env = {"MLFLOW_TRACKING_PASSWORD": "hunter22" * 2}
    assert engine.run(BASE, ["python3", "-c", code], env=env, volumes={}, network=None, gpus=False, on_output=look) == 0
    assert out == [b"16\n"]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"argv": ["no-such-program"]}, InputError, "there is no no-such-program"),
        ({"image": "envlock-test/none:1"}, UnknownImage, "no image"),
        ({"network": "no-such-network"}, InputError, "no network no-such-network"),
        ({"volumes": {"relative path": "x"}}, InputError, "volume"),
    ],
    ids=["program", "image", "network", "volume"],
)
def test_what_cannot_be(engine: DockerEngine, docker: Docker, options: dict, kind: type, message: str) -> None:
    word = mark()
    with pytest.raises(kind, match=message) as caught:
        run(engine, **{**options, "argv": [*options.get("argv", ["true"]), word]})
    assert caught.value.hint
    assert not containers_with(docker, word)


def test_gpus_where_there_are_none(engine: DockerEngine, docker: Docker) -> None:
    if "nvidia" in docker("info", "--format", "{{json .Runtimes}}"):
        assert run(engine, ["true"], gpus=True)[0] == 0
        return
    with pytest.raises(EngineError, match="no GPU") as caught:
        run(engine, ["true"], gpus=True)
    assert "NVIDIA Container Toolkit" in caught.value.hint


INTERRUPTED = """
import os, sys
from envlock.adapters.engine import DockerEngine
DockerEngine(os.environ).run({image!r}, ["python3", "-c", {code!r}], env={{}}, volumes={{}}, network=None, gpus=False,
                             on_output=lambda data, _: os.write(1, data))
"""
SAVES = """
import threading
import time
try:
    print('up', flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    print('saved')
"""
IGNORES = """
import signal, time
for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, signal.SIG_IGN)
print('up', flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("code", "last"), [(SAVES, "saved"), (IGNORES, "")], ids=["saves", "ignores"])
def test_interruption_gives_a_moment_and_then_ends_it(docker: Docker, code: str, last: str) -> None:
    word = mark()
    script = INTERRUPTED.format(image=BASE, code=f"# {word}\n{code}")
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 20
        assert out.strip() == last
        assert "KeyboardInterrupt" in err
        assert containers_with(docker, word) == []
    finally:
        process.kill()
        process.communicate()


# --- the command ------------------------------------------------------------------------------------------------------


def envlock(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "envlock", "run", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
    )


def test_command_passes_output_and_exit_code_through(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("seen")
    tmp_path.chmod(0o755)
    code = "import os, sys; print(os.environ['A'], os.environ['B'], open('/data/file').read()); sys.exit('--late')"
    done = envlock(
        *(
            "--image",
            BASE,
            "--env",
            "A=1",
            "-e",
            "B",
            "--volume",
            f"{tmp_path}:/data",
            "--",
            "python3",
            "-c",
            code,
            "--x",
        ),
        B="two words",
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "1 two words seen\n", "--late\n")


def test_command_reaches_mlflow_on_this_machines_loopback() -> None:
    asked: list[str] = []

    class Tracking(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    code = (
        "import os, urllib.request as r; "
        "names = ['MLFLOW_TRACKING_URI', 'MLFLOW_RUN_ID', 'MLFLOW_TRACKING_TOKEN']; "
        "r.urlopen('{}/{}{}'.format(*map(os.environ.get, names)))"
    )
    with HTTPServer(("127.0.0.1", 0), Tracking) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        done = envlock(
            *("--image", BASE, "--run-id", "abc", "--", "python3", "-c", code),
            MLFLOW_TRACKING_URI=f"http://127.0.0.1:{server.server_port}",
            MLFLOW_TRACKING_TOKEN="t0ken",
        )
        server.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    assert asked == ["/abct0ken"]
    assert "host networking" in done.stderr
    assert "t0ken" not in done.stderr


def test_command_for_an_image_that_is_not_there() -> None:
    done = envlock("--image", "envlock-test/none:1", "--", "true")
    assert done.returncode == 2
    assert "no image" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
