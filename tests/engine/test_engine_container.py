"""The container without a network, on the real engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.errors import EngineError, HashMismatch, InputError, StorageError, UnknownImage
from envlock.ports import GATEWAY_URL, Container, GatewayRequest, GatewayResponse
from tests.support.engines import BASE, NO_PYTHON, Docker, mark

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    engine = DockerEngine(os.environ)
    yield engine
    engine.close()


def answer(request: GatewayRequest) -> GatewayResponse:
    if request.path == "/wrong":
        raise HashMismatch("file x is not what the lock says")
    if request.path == "/big":
        return GatewayResponse(body=(b"x" * (1 << 20) for _ in range(64)))
    return GatewayResponse(body=[f"{request.method} {request.path}".encode()])


@pytest.fixture(scope="module")
def container(engine: DockerEngine) -> Iterator[Container]:
    with engine.container(BASE, handler=answer, env={"GIVEN": "here"}) as container:
        yield container


def gateways(docker: Docker, word: str) -> list[str]:
    """Return the containers, in any state, with this word in their environment; those of tests beside come and go."""
    inspect = ("docker", "inspect", "--format", "{{json .Config.Env}}")
    return [
        name
        for name in docker("ps", "--all", "--quiet", "--filter", "label=envlock=gateway").split()
        if word in subprocess.run([*inspect, name], check=False, capture_output=True, text=True).stdout
    ]


def python(container: Container, code: str, **options: object):
    return container.run(["python3", "-c", code], **options)  # type: ignore[arg-type]


# --- programs ---------------------------------------------------------------------------------------------------------


def test_program_with_its_output_and_exit_code(container: Container) -> None:
    told: list[str] = []
    code = "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr); sys.exit(7)"
    done = python(container, code, on_line=told.append)
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert sorted(told) == ["err", "out"]


def test_lines_come_while_the_program_runs(container: Container) -> None:
    times: list[float] = []
    python(
        container,
        "import time; print(1, flush=True); time.sleep(1); print(2)",
        on_line=lambda _: times.append(time.monotonic()),
    )
    assert times[1] - times[0] > 0.7


def test_no_output_is_lost(container: Container) -> None:
    for _ in range(20):
        assert container.run(["echo", "whole"]).stdout == b"whole\n"
    done = python(container, "import os; os.write(1, b'x' * 5_000_000); os.write(2, b'y' * 1_000_000)")
    assert (len(done.stdout), len(done.stderr)) == (5_000_000, 1_000_000)


def test_environment_user_and_folder(container: Container) -> None:
    code = "import os; print(os.environ['GIVEN'], os.environ.get('MORE'), os.getuid(), os.getcwd())"
    assert python(container, code).stdout == b"here None 0 /\n"
    done = python(container, code, env={"MORE": "a b"}, user="65534", workdir="/tmp")
    assert done.stdout == b"here a b 65534 /tmp\n"


def test_program_that_is_not_there(container: Container) -> None:
    assert container.run(["no-such-program"]).exit_code in (126, 127)
    assert container.run(["/etc/passwd"]).exit_code in (126, 127)


def test_arguments_are_never_a_shells(container: Container) -> None:
    arguments = ["$HOME", "a b", ";exit 1", "`id`", "", "ż\n"]
    done = container.run(["python3", "-c", "import sys; print(ascii(sys.argv[1:]))", *arguments])
    assert done.stdout.decode().strip() == ascii(arguments)


# --- rights -----------------------------------------------------------------------------------------------------------


def test_only_the_rights_that_apt_and_dpkg_need(container: Container) -> None:
    status = container.run(["cat", "/proc/self/status"]).stdout.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapBnd"], 16) == (1 << 0) | (1 << 1) | (1 << 3) | (1 << 4)  # chown, dac, fowner, fsetid
    assert fields["NoNewPrivs"] == "1"


def test_there_is_no_network(container: Container) -> None:
    code = "import os; print(sorted(os.listdir('/sys/class/net')))"
    assert python(container, code).stdout == b"['lo']\n"


def test_there_are_no_mounts_and_nothing_is_logged(docker: Docker, engine: DockerEngine) -> None:
    word = mark()
    with engine.container(BASE, env={"WORD": word}):
        (name,) = gateways(docker, word)
        shape = "{{len .Mounts}} {{.HostConfig.AutoRemove}} {{.HostConfig.LogConfig.Type}} {{.HostConfig.NetworkMode}}"
        assert docker("inspect", "--format", shape, name).split() == ["0", "true", "none", "none"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_go_in_and_come_out(container: Container, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(8 << 20))
    container.put(
        {"/opt/new/folder/żółw.txt": b"slow", "/opt/new/tool": b"#!/bin/sh\necho ran", "/opt/new/big": big},
        executable=["/opt/new/tool"],
    )
    assert container.read("/opt/new/folder/żółw.txt") == b"slow"
    assert container.run(["/opt/new/tool"]).stdout == b"ran\n"
    assert container.read("/opt/new/big") == big.read_bytes()
    assert {name for name, _ in container.files("/opt/new")} == {"folder/żółw.txt", "tool", "big"}
    assert container.run(["stat", "-c", "%U %a", "/opt/new/folder"]).stdout.split()[0] == b"root"
    container.put({"/opt/new/tool": b"changed"})
    assert container.read("/opt/new/tool") == b"changed"


def test_links_are_followed_inside(container: Container) -> None:
    code = """
import os
os.makedirs('/opt/links/real/deep')
open('/opt/links/real/file', 'w').write('content')
os.link('/opt/links/real/file', '/opt/links/real/twin')
os.symlink('file', '/opt/links/real/alias')
os.symlink('/opt/links/real', '/opt/links/folder')
os.symlink('folder/alias', '/opt/links/far')
os.symlink('loop', '/opt/links/loop')
os.symlink('../../../../../../etc/hostname', '/opt/links/out')
os.mkfifo('/opt/links/real/pipe')
"""
    assert python(container, code).exit_code == 0
    for path in ("far", "folder/file", "real/twin"):
        assert container.read(f"/opt/links/{path}") == b"content"
    assert container.read("/opt/links/loop") is None
    assert container.read("/opt/links/real/pipe") is None
    assert dict(container.files("/opt/links/folder")) == {"file": b"content", "twin": b"content"}


def test_what_is_not_there(container: Container) -> None:
    assert container.read("/no/such/file") is None
    assert container.read("/etc") is None
    assert list(container.files("/no/such/folder")) == []


def test_file_of_this_machine_that_is_not_there(container: Container, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        container.put({"/opt/x": tmp_path / "none"})
    assert container.run(["true"]).exit_code == 0


# --- fetching ---------------------------------------------------------------------------------------------------------


def fetch(container: Container, path: str, then: str = "print(len(r.read()))"):
    return python(container, f"import urllib.request; r = urllib.request.urlopen('{GATEWAY_URL}{path}'); {then}")


def test_programs_fetch_through_the_handler(container: Container) -> None:
    assert fetch(container, "/a?b=c", "print(r.read().decode())").stdout == b"GET /a?b=c\n"
    assert fetch(container, "/big").stdout == b"%d\n" % (64 << 20)
    assert container.handler_error() is None


def test_handlers_error_is_the_cause(container: Container) -> None:
    assert b"502" in fetch(container, "/wrong").stderr
    assert isinstance(container.handler_error(), HashMismatch)
    assert fetch(container, "/right").exit_code == 0
    assert container.handler_error() is None  # an old failure is not the cause of what comes later


def test_proxy_of_the_base_is_not_for_the_gateway(engine: DockerEngine) -> None:
    with engine.container(BASE, handler=answer, env={"http_proxy": "http://192.0.2.1:3128"}) as container:
        assert fetch(container, "/a").exit_code == 0


# --- images that cannot -----------------------------------------------------------------------------------------------


def test_image_without_python(engine: DockerEngine, docker: Docker) -> None:
    word = mark()
    with (
        pytest.raises(InputError, match=r"no Python 3\.8 or newer runs in") as caught,
        engine.container(NO_PYTHON, env={"WORD": word}),
    ):
        pass
    assert caught.value.hint
    assert not gateways(docker, word)


def test_python_that_is_none(engine: DockerEngine) -> None:
    with pytest.raises(InputError) as caught, engine.container(BASE, python="/bin/true"):
        pass
    assert any("/bin/true" in line for line in caught.value.details)


def test_image_that_is_not_there(engine: DockerEngine) -> None:
    with pytest.raises((UnknownImage, InputError), match="no image"), engine.container("envlock-test/none:1"):
        pass


# --- the end ----------------------------------------------------------------------------------------------------------


def gone_within(docker: Docker, word: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while gateways(docker, word):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_container_ends_with_its_context(engine: DockerEngine, docker: Docker) -> None:
    word = mark()

    def fail() -> None:
        with engine.container(BASE, env={"WORD": word}):
            assert gateways(docker, word)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not gateways(docker, word)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_container_never_outlives_this_process(docker: Docker, how: signal.Signals) -> None:
    """Also not while a program runs in it, and however hard the process is ended."""
    word = mark()
    code = f"""
import os
from envlock.adapters.engine import DockerEngine
with DockerEngine(os.environ).container({BASE!r}, env={{"WORD": {word!r}}}) as container:
    print("up", flush=True)
    container.run(["sleep", "60"])
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(how)
        process.communicate(timeout=20)
        assert time.monotonic() - began < 10
        assert gone_within(docker, word, 20)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("use", [lambda it: it.run(["true"]), lambda it: it.read("/etc/passwd")], ids=["run", "read"])
def test_container_that_is_killed_under_us(
    engine: DockerEngine, docker: Docker, use: Callable[[Container], object]
) -> None:
    word = mark()
    with engine.container(BASE, env={"WORD": word}) as container:
        (name,) = gateways(docker, word)
        docker("kill", name)
        assert gone_within(docker, word, 20)
        with pytest.raises(EngineError, match="ended") as caught:
            use(container)
    assert caught.value.hint
