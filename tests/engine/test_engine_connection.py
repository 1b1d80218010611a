"""Ways to the engine: TCP, TLS, ssh, contexts; and the faults on them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import stat
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.adapters.engine.endpoint import find_endpoint
from envlock.errors import EngineError
from envlock.ports import GATEWAY_URL, GatewayResponse
from tests.support.certificates import make_certificates
from tests.support.engines import BASE, context, mark
from tests.support.forwarder import forwarder

pytestmark = pytest.mark.engine

FETCH = f"import urllib.request; print(len(urllib.request.urlopen('{GATEWAY_URL}/x').read()))"


def exercise(engine: DockerEngine) -> None:
    """Use everything that has a way of its own through a connection: streams both ways, files, builds."""
    try:
        assert engine.info().platform.startswith("linux/")
        body = [os.urandom(1 << 20)] * 8
        with engine.container(BASE, handler=lambda _: GatewayResponse(body=body)) as container:
            assert container.run(["python3", "-c", FETCH]).stdout == b"%d\n" % (8 << 20)
            assert container.run(["sh", "-c", "echo out; echo err >&2; exit 3"]).exit_code == 3
            container.put({"/opt/big": body[0]})
            assert container.read("/opt/big") == body[0]
        image = engine.build(
            context(f"FROM {BASE}\nRUN echo {mark()}\n"), platform="linux/amd64", on_line=lambda _: None
        )
        output: list[bytes] = []
        code = engine.run(
            image,
            ["sh", "-c", "echo hello; exit 4"],
            env={},
            volumes={},
            network="none",
            gpus=False,
            on_output=lambda data, _: output.append(data),
        )
        assert (code, b"".join(output)) == (4, b"hello\n")
        engine.remove(image)
    finally:
        engine.close()


def test_over_tcp() -> None:
    with forwarder() as line:
        exercise(DockerEngine({"DOCKER_HOST": line.url}))


def test_over_tls(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server-key.pem")
    server.load_verify_locations(tmp_path / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    with forwarder(server) as line:
        environment = {"DOCKER_HOST": line.url, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
        exercise(DockerEngine(environment))
        (tmp_path / "other").mkdir()
        make_certificates(tmp_path / "other")  # of another CA
        with pytest.raises(EngineError) as caught:
            DockerEngine({**environment, "DOCKER_CERT_PATH": str(tmp_path / "other")}).info()
        assert caught.value.hint


def test_over_a_context(tmp_path: Path) -> None:
    with forwarder() as line:
        folder = tmp_path / "contexts" / "meta" / hashlib.sha256(b"there").hexdigest()
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"Name": "there", "Endpoints": {"docker": {"Host": line.url}}}))
        (tmp_path / "config.json").write_text('{"currentContext": "there"}')
        engine = DockerEngine({"DOCKER_CONFIG": str(tmp_path)})
        assert engine.address == line.url
        assert engine.info().version
        engine.close()


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program named ssh on the PATH that runs the remote command here; return the file of its arguments."""
    docker = shutil.which("docker")
    assert docker, "the ssh tests need Docker's own client, as the far side of ssh does"
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "arguments"
    program = folder / "ssh"
    program.write_text(
        f"""#!/bin/sh
echo "$@" >> {log}
while [ "$1" != -- ]; do shift; done
shift 2
test "$*" = "docker system dial-stdio" || exit 1
export DOCKER_HOST={find_endpoint(os.environ).host}
exec {docker} system dial-stdio
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def test_over_ssh(ssh: Path) -> None:
    exercise(DockerEngine({"DOCKER_HOST": "ssh://me@far.example.org:2222"}))
    calls = set(ssh.read_text().splitlines())
    assert calls == {"-T -l me -p 2222 -- far.example.org docker system dial-stdio"}


def test_what_ssh_says_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\necho 'me@far.example.org: Permission denied (publickey).' >&2\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EngineError, match=r"Permission denied \(publickey\)"):
        DockerEngine({"DOCKER_HOST": "ssh://me@far.example.org"}).info()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(EngineError, match="no ssh program"):
        DockerEngine({"DOCKER_HOST": "ssh://me@far.example.org"}).info()


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["unix:///no/such/docker.sock", "tcp://127.0.0.1:1"])
def test_no_engine(host: str) -> None:
    with pytest.raises(EngineError, match="no Docker engine answers") as caught:
        DockerEngine({"DOCKER_HOST": host}).info()
    assert "DOCKER_HOST" in caught.value.hint


def test_engine_without_permission(tmp_path: Path) -> None:
    """As a user who is not in the engine's group: root itself may always."""
    found = find_endpoint(os.environ).host
    if os.geteuid() != 0:
        blocked = tmp_path / "blocked"
        blocked.mkdir()
        blocked.chmod(0)
        found = f"unix://{blocked}/docker.sock"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            DockerEngine({"DOCKER_HOST": found, "DOCKER_CONFIG": "/nowhere"}).info()
            os.write(writer, b"it worked")
        except EngineError as error:
            os.write(writer, f"{error.message}|{error.hint}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    assert "no permission to use the engine" in text
    assert "usermod -aG docker" in text


def test_engine_that_is_too_old() -> None:
    class Old(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = b'{"Version": "19.03.15", "ApiVersion": "1.40"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Old) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(EngineError, match=r"too old: 19.03.15 \(API 1.40\)") as caught:
            DockerEngine({"DOCKER_HOST": f"tcp://127.0.0.1:{server.server_port}"}).info()
        thread.join()
    assert "20.10" in caught.value.hint


def test_something_else_answers() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(EngineError):
            DockerEngine({"DOCKER_HOST": f"tcp://127.0.0.1:{server.server_port}"}).info()
        thread.join()


def test_connection_that_breaks_in_a_program() -> None:
    with forwarder() as line:
        engine = DockerEngine({"DOCKER_HOST": line.url})
        began = time.monotonic()
        threading.Timer(3, line.close).start()
        with pytest.raises(EngineError) as caught, engine.container(BASE) as container:
            container.run(["sleep", "60"])
        engine.close()
    assert time.monotonic() - began < 30
    assert caught.value.hint


def test_connection_that_breaks_in_a_build() -> None:
    with forwarder() as line:
        engine = DockerEngine({"DOCKER_HOST": line.url})

        def told(text: str) -> None:
            if "now cut" in text and "RUN" not in text:
                line.close()

        with pytest.raises(EngineError) as caught:
            engine.build(
                context(f"FROM {BASE}\nRUN echo {mark()}; echo now cut; sleep 3\n"),
                platform="linux/amd64",
                on_line=told,
            )
        engine.close()
    assert caught.value.hint
