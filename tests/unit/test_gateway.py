"""The gateway, both ways: through the agent in another process, and on loopback."""

from __future__ import annotations

import ast
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from envlock.adapters.gateway import agent, agent_source
from envlock.errors import IndexFailed
from envlock.ports import GatewayRequest, GatewayResponse, Handler
from tests.support.gateways import Served, agent_process, through_agent, through_loopback

Serve = Callable[[Handler], AbstractContextManager[Served]]


@pytest.fixture(params=[through_agent, through_loopback], ids=["agent", "loopback"])
def serve(request: pytest.FixtureRequest) -> Serve:
    return request.param


def ask(served: Served, path: str, *, method: str = "GET", headers: dict[str, str] | None = None):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def talk(served: Served, text: bytes) -> bytes:
    """Send raw bytes, and read until the other side closes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while block := connection.recv(65536):
            received += block
        return received


def test_request_arrives_as_it_was_made_and_its_answer_goes_back(serve: Serve) -> None:
    seen: list[GatewayRequest] = []

    def handler(request: GatewayRequest) -> GatewayResponse:
        seen.append(request)
        return GatewayResponse(
            status=206, headers={"X-Kind": "tested", "Content-Type": "text/html"}, body=(b"one ", b"two")
        )

    with serve(handler) as served:
        status, headers, body = ask(served, "/simple/a%20b/?x=1&y=%2F", headers={"If-Range": "Tag"})
    assert (status, body) == (206, b"one two")
    assert headers["X-Kind"] == "tested"
    assert headers["Content-Length"] == "7"  # all of it was here already, so its length is known
    assert (seen[0].method, seen[0].path, seen[0].headers["if-range"]) == ("GET", "/simple/a%20b/?x=1&y=%2F", "Tag")


def test_body_of_unknown_length_goes_in_chunks(serve: Serve) -> None:
    with serve(lambda _: GatewayResponse(body=iter([b"a" * 10, b"", b"b" * 700_000]))) as served:
        _, headers, body = ask(served, "/")
    assert headers["Transfer-Encoding"] == "chunked"
    assert body == b"a" * 10 + b"b" * 700_000


def test_body_may_be_one_bytes_object(serve: Serve) -> None:
    with serve(lambda _: GatewayResponse(body=b"whole")) as served:
        assert ask(served, "/")[2] == b"whole"


def test_old_client_gets_the_body_up_to_the_end_of_the_connection(serve: Serve) -> None:
    with serve(lambda _: GatewayResponse(body=iter([b"abc"]))) as served:
        head, _, body = talk(served, b"GET / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert body == b"abc"
    assert b"chunked" not in head


def test_head_has_the_headers_and_no_body(serve: Serve) -> None:
    drawn = []

    def body() -> Iterator[bytes]:
        drawn.append(1)
        yield b"x"

    with serve(lambda _: GatewayResponse(headers={"Content-Length": "1000"}, body=body())) as served:
        status, headers, content = ask(served, "/file", method="HEAD")
    assert (status, headers["Content-Length"], content, drawn) == (200, "1000", b"", [])


def test_pipelined_requests_are_answered_in_their_order(serve: Serve) -> None:
    """apt sends ten requests before it reads the first answer."""

    def handler(request: GatewayRequest) -> GatewayResponse:
        number = int(request.path[1:])
        time.sleep((10 - number) / 500)
        status = 304 if number == 4 else 404 if number == 5 else 200
        return GatewayResponse(status=status, body=iter([f"<{number}>".encode()]))

    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(10))
    with serve(handler) as served:
        received = talk(served, requests)
    assert received.count(b"HTTP/1.1 ") == 10
    assert [received.index(b"<%d>" % n) for n in range(10) if n != 4] == sorted(
        received.index(b"<%d>" % n) for n in range(10) if n != 4
    )
    assert b"<4>" not in received  # 304 has no body


def test_one_connection_serves_many_requests(serve: Serve) -> None:
    with serve(lambda request: GatewayResponse(body=[request.path.encode()])) as served:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
        connection.connect()
        first = connection.sock
        for number in range(50):
            connection.request("GET", f"/{number}")
            assert connection.getresponse().read() == b"/%d" % number
            assert connection.sock is first
        connection.close()


def test_many_clients_at_once(serve: Serve) -> None:
    repeat = 20_000
    with (
        serve(lambda request: GatewayResponse(body=iter([request.path.encode() * repeat]))) as served,
        ThreadPoolExecutor(24) as pool,
    ):
        bodies = list(pool.map(lambda n: ask(served, f"/{n:03}")[2], range(120)))
    assert bodies == [b"/%03d" % n * 20_000 for n in range(120)]


def test_failing_handler_is_a_502_and_its_error_is_kept(serve: Serve) -> None:
    def handler(_: GatewayRequest) -> GatewayResponse:
        raise IndexFailed("index example is down", hint="wait")

    with serve(handler) as served:
        status, _, body = ask(served, "/simple/x/")
        assert (status, body) == (502, b"index example is down")
        failure = served.failure()
    assert isinstance(failure, IndexFailed)
    assert failure.hint == "wait"


def test_bug_in_a_handler_is_not_taken_for_a_failure_of_the_world(serve: Serve) -> None:
    def handler(_: GatewayRequest) -> GatewayResponse:
        raise KeyError("secret detail")

    with serve(handler) as served:
        status, _, body = ask(served, "/")
        assert (status, body) == (502, b"KeyError")
        with pytest.raises(KeyError):
            served.failure()


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "100"}], ids=["chunked", "known length"])
def test_body_that_breaks_off_never_looks_whole(serve: Serve, headers: dict[str, str]) -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * 10
        raise IndexFailed("gone half-way")

    with serve(lambda _: GatewayResponse(headers=headers, body=body())) as served:
        with pytest.raises(http.client.IncompleteRead):
            ask(served, "/")
        assert str(served.failure()) == "gone half-way"


def test_body_shorter_than_announced_never_looks_whole(serve: Serve) -> None:
    short = GatewayResponse(headers={"Content-Length": "100"}, body=[b"x"])
    with serve(lambda _: short) as served, pytest.raises(http.client.IncompleteRead):
        ask(served, "/")


class Endless:
    """A body without an end, that knows how much of it was taken and when nobody wants more."""

    def __init__(self) -> None:
        self.taken = 0
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.taken += 1 << 16
            yield b"x" * (1 << 16)

    def close(self) -> None:
        self.closed.set()


def test_client_that_hangs_up_ends_the_body(serve: Serve) -> None:
    body = Endless()
    with serve(lambda _: GatewayResponse(body=body)) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096)
        assert body.closed.wait(20)


def test_slow_client_neither_fills_memory_nor_holds_up_others(serve: Serve) -> None:
    body = Endless()
    with serve(lambda request: GatewayResponse(body=body if request.path == "/big" else [b"small"])) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            before = -1
            while before != body.taken:  # until nothing moves any more
                before = body.taken
                time.sleep(0.3)
                assert ask(served, "/small")[2] == b"small"
            assert body.taken < agent.WINDOW + (24 << 20)  # the window, and what the two sockets hold
        assert body.closed.wait(20)


def test_answer_without_handler_is_404() -> None:
    with agent_process(None) as (served, _):
        assert ask(served, "/")[0] == 404


def test_other_methods_are_refused(serve: Serve) -> None:
    with serve(lambda _: GatewayResponse()) as served:
        assert ask(served, "/", method="DELETE")[0] == 501


def test_request_with_a_body_does_not_confuse_the_next_one(serve: Serve) -> None:
    seen = []

    def handler(request: GatewayRequest) -> GatewayResponse:
        seen.append(request.path)
        return GatewayResponse(body=[b"ok"])

    with serve(handler) as served:
        talk(served, b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n....")
    assert seen == ["/a"]


def test_agent_ends_when_its_host_does() -> None:
    with agent_process(lambda _: GatewayResponse()) as (served, process):
        assert process.stdin
        process.stdin.close()
        assert process.wait(20) == 0
        with pytest.raises(OSError):
            ask(served, "/")


def test_agent_runs_on_old_pythons() -> None:
    tree = ast.parse(agent_source(), feature_version=(3, 8))
    assert ast.get_docstring(tree)


def test_agent_listens_where_the_ports_say() -> None:
    from envlock.ports import GATEWAY_URL

    assert f"http://127.0.0.1:{agent.PORT}" == GATEWAY_URL
