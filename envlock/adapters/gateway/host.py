"""The gateway's end on this machine: answers the requests that the agent in a container sends over a byte stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from importlib import resources
from typing import Any

from envlock.adapters.gateway import agent
from envlock.adapters.gateway.answers import Answers, closing_body, headers_of
from envlock.ports import GatewayRequest, Handler

BLOCK = 256 << 10  # bytes in one frame at most: a big body must not hold up the small ones for long
AT_ONCE = 32  # handlers that run at the same time


def agent_source() -> str:
    """Return the program to run in the container, for ``python -c``."""
    return resources.files("envlock.adapters.gateway").joinpath("agent.py").read_text(encoding="utf-8")


class _Gone(Exception):
    """The client or the container is not there any more."""


class _Credit:
    """How much of a body may still be sent before the client has taken more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._left = agent.WINDOW
        self._cancelled = False

    def spend(self, amount: int) -> None:
        with self._changed:
            while self._left <= 0 and not self._cancelled:
                self._changed.wait()
            if self._cancelled:
                raise _Gone
            self._left -= amount

    def add(self, amount: int) -> None:
        with self._changed:
            self._left += amount
            self._changed.notify_all()

    def cancel(self) -> None:
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()


class Gateway:
    """Serves an agent until its stream ends.

    ``receive(n)`` returns exactly n bytes of what the agent writes to its stdout, or fewer at its end; ``send`` writes
    all of what it is given to the agent's stdin. Both may raise ``OSError``, which ends the gateway
    as an end of stream does.
    """

    def __init__(
        self, handler: Handler | None, *, receive: Callable[[int], bytes], send: Callable[[bytes], None]
    ) -> None:
        self.answers = Answers(handler)
        self._receive = receive
        self._send_bytes = send
        self._sending = threading.Lock()
        self._streams: dict[int, _Credit] = {}
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._ended = threading.Event()
        self._greeted = threading.Event()
        self.greeting: dict[str, Any] | None = None  # {"python": [3, 11, 2], "executable": "/usr/bin/python3"}

    def start(self) -> None:
        """Begin to serve, in threads that never keep this process alive."""
        threading.Thread(target=self._pump, name="gateway", daemon=True).start()

    def wait_ready(self, seconds: float) -> bool:
        """Wait until the agent listens; False where it ended or said nothing in time."""
        self._greeted.wait(seconds)
        return self.greeting is not None

    @property
    def ended(self) -> bool:
        """Return whether the agent is gone."""
        return self._ended.is_set()

    def close(self) -> None:
        """Stop answering; handlers that still run find their client gone."""
        self._ended.set()
        self._greeted.set()
        for credit in list(self._streams.values()):
            credit.cancel()

    def _pump(self) -> None:
        try:
            while not self._ended.is_set():
                header = self._receive(agent.FRAME.size)
                if len(header) < agent.FRAME.size:
                    break
                kind, number, length = agent.FRAME.unpack(header)
                self._take(kind, number, self._receive(length))
        except (OSError, ValueError):
            pass  # the stream was closed under us: the container is gone or going
        finally:
            self.close()

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == agent.HELLO:
            self.greeting = json.loads(payload)
            self._greeted.set()
        elif kind == agent.REQUEST:
            credit = self._streams[number] = _Credit()
            request = GatewayRequest(**json.loads(payload))
            threading.Thread(target=self._serve, args=(number, credit, request), daemon=True).start()
        elif (known := self._streams.get(number)) is not None:
            if kind == agent.CREDIT:
                known.add(int.from_bytes(payload, "big"))
            else:
                known.cancel()

    def _serve(self, number: int, credit: _Credit, request: GatewayRequest) -> None:
        try:
            with self._slots:
                self._answer(number, credit, request)
        except (_Gone, OSError, ValueError):
            pass  # nobody waits for the answer any more
        finally:
            self._streams.pop(number, None)

    def _answer(self, number: int, credit: _Credit, request: GatewayRequest) -> None:
        response = self.answers.respond(request)
        with closing_body(response) as body:
            head = {"status": response.status, "headers": headers_of(response)}
            self._send(agent.HEAD, number, json.dumps(head).encode())
            if request.method != "HEAD":
                for block in self._blocks(body, number):
                    for start in range(0, len(block), BLOCK):
                        piece = block[start : start + BLOCK]
                        credit.spend(len(piece))
                        self._send(agent.BODY, number, piece)
            self._send(agent.END, number, b"")

    def _blocks(self, body: Any, number: int) -> Any:
        """Yield the body's blocks; where it fails half-way, break the client's connection off and keep the cause."""
        try:
            yield from body
        except Exception as error:
            self.answers.keep(error)
            self._send(agent.ABORT, number, b"")
            raise _Gone from error

    def _send(self, kind: int, number: int, payload: bytes) -> None:
        if self._ended.is_set():
            raise _Gone
        with self._sending:
            self._send_bytes(agent.FRAME.pack(kind, number, len(payload)) + payload)
