"""What every ``ports.Engine`` does: held against the real one and against the fake that other tests use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.errors import BuildFailed, HashMismatch, InputError, UnknownImage
from envlock.ports import GATEWAY_URL, Engine, GatewayRequest, GatewayResponse
from tests.support.engines import BASE, NO_PYTHON, context, mark
from tests.support.fake_engine import FakeContainer, FakeEngine, completed
from tests.support.progress import Remembering

pytestmark = pytest.mark.engine

AMD64 = "linux/amd64"
FETCH = f"import urllib.request; print(urllib.request.urlopen('{GATEWAY_URL}/x').read().decode())"


def fake() -> FakeEngine:
    def python(container: FakeContainer, argv: Any, env: Any):
        if argv[2] == FETCH and container.handler:
            body = container.handler(GatewayRequest(method="GET", path="/x", headers={})).body
            return completed(b"".join(body).decode() + "\n")
        return completed(env.get("A", "") + "\n", exit_code=3)

    engine = FakeEngine(programs={"python3": python})
    engine.add(BASE, files={"/etc/os-release": b"ID=debian\n", "/etc/debian_version": b"12\n"})
    engine.add(NO_PYTHON)
    return engine


@pytest.fixture(params=["fake", "real"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "fake":
        yield fake()
        return
    real = DockerEngine(os.environ)
    yield real
    real.close()


def test_find(engine: Engine) -> None:
    image = engine.find(BASE)
    assert image
    assert image.platform == AMD64
    assert engine.find(image.id) == image
    assert engine.find("envlock-test/none:1") is None
    assert engine.find("sha256:" + "0" * 64) is None


def test_container(engine: Engine) -> None:
    told: list[str] = []
    with engine.container(BASE, env={"A": "given"}) as container:
        code = "import os, sys; print(os.environ['A']); sys.exit(3)"
        done = container.run(["python3", "-c", code], env={"A": "b"}, on_line=told.append)
        assert (done.exit_code, done.stdout, told) == (3, b"b\n", ["b"])
        assert container.run(["python3", "-c", code]).stdout == b"given\n"
        assert container.run(["no-such-program"]).exit_code in (126, 127)
        container.put({"/opt/x/a": b"1", "/opt/x/b/c": b"2"})
        assert container.read("/opt/x/a") == b"1"
        assert dict(container.files("/opt/x")) == {"a": b"1", "b/c": b"2"}
        assert container.read("/etc/os-release")
        assert container.read("/nothing") is None
        assert list(container.files("/nothing")) == []


def test_handler(engine: Engine) -> None:
    fail = [False]

    def handler(_: GatewayRequest) -> GatewayResponse:
        if fail[0]:
            raise HashMismatch("wrong")
        return GatewayResponse(body=[b"hello"])

    with engine.container(BASE, handler=handler) as container:
        assert container.run(["python3", "-c", FETCH]).stdout == b"hello\n"
        assert container.handler_error() is None
        fail[0] = True
        assert container.run(["python3", "-c", FETCH]).exit_code != 0
        assert isinstance(container.handler_error(), HashMismatch)
        fail[0] = False
        assert container.run(["python3", "-c", FETCH]).exit_code == 0
        assert container.handler_error() is None


def test_container_of_what_is_not_there(engine: Engine) -> None:
    with pytest.raises(InputError), engine.container("envlock-test/none:1"):
        pass


ECHO = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read(4)[::-1]); sys.stdout.flush(); sys.stdin.read()"


def test_pipe(engine: Engine) -> None:
    with engine.piped(BASE, ["python3", "-c", ECHO], env={"PATH": "/usr/bin:/bin"}) as pipe:
        pipe.send(b"ab")
        pipe.send(b"cd")
        assert pipe.receive(4) == b"dcba"
    with engine.piped(BASE, ["python3", "-c", "print('few')"], env={"PATH": "/usr/bin:/bin"}) as pipe:
        assert pipe.receive(100) == b"few\n"
        assert pipe.receive(100) == b""
    with pytest.raises(InputError), engine.piped("envlock-test/none:1", ["python3"], env={}):
        pass


def test_build_tag_remove(engine: Engine) -> None:
    lines: list[str] = []
    image = engine.build(context(f"FROM {BASE}\nRUN echo {mark()}\n"), platform=AMD64, on_line=lines.append)
    assert lines[0] == f"Step 1/2 : FROM {BASE}"
    name = f"envlock-test/{mark()}:1"
    engine.tag(image, name)
    assert engine.find(name) == engine.find(image)
    engine.remove(name)
    engine.remove(image)
    engine.remove(image)
    assert engine.find(image) is None
    with pytest.raises(BuildFailed) as caught:
        engine.build(context(f"FROM {BASE}\nRUN echo oops; exit 1\n"), platform=AMD64, on_line=lines.append)
    assert "step 2/2" in caught.value.message
    assert caught.value.details == ("oops",)


def test_run(engine: Engine) -> None:
    out: list[tuple[bytes, bool]] = []
    code = engine.run(
        BASE,
        ["python3", "-c", "import os, sys; print(os.environ['A']); sys.exit(3)"],
        env={"A": "b"},
        volumes={},
        network="none",
        gpus=False,
        on_output=lambda data, stderr: out.append((data, stderr)),
    )
    assert code == 3
    assert b"".join(data for data, stderr in out if not stderr) == b"b\n"


def test_unknown_image(engine: Engine) -> None:
    with pytest.raises(UnknownImage):
        engine.push("127.0.0.1:5000/envlock-test/none:1", progress=Remembering())
    with pytest.raises(UnknownImage):
        engine.pull("127.0.0.1:5000/envlock-test/none:1", platform=AMD64, progress=Remembering())
    with pytest.raises(UnknownImage):
        engine.tag("sha256:" + "0" * 64, "envlock-test/none:1")
