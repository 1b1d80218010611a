"""The same handler for programs of this machine: an HTTP server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from envlock.adapters.gateway import agent
from envlock.adapters.gateway.answers import Answers, closing_body, headers_of
from envlock.errors import EnvlockError
from envlock.ports import GatewayRequest, Handler


class Loopback:
    """A running server: where it is, and what its handler failed with."""

    def __init__(self, url: str, answers: Answers) -> None:
        self.url = url
        self._answers = answers

    def __str__(self) -> str:
        return self.url

    def handler_error(self) -> EnvlockError | None:
        """Return the handler's last ``EnvlockError``, if any; raises what is no ``EnvlockError``, for that is a bug."""
        return self._answers.failure()


@contextmanager
def serve_on_loopback(handler: Handler) -> Iterator[Loopback]:
    """Serve ``handler`` on 127.0.0.1, on a port that the system chooses, as long as the context lasts."""
    answers = Answers(handler)

    @contextmanager
    def ask(
        method: str, path: str, headers: Mapping[str, str]
    ) -> Iterator[tuple[int, dict[str, str], Iterator[bytes]]]:
        response = answers.respond(GatewayRequest(method=method, path=path, headers=headers))
        with closing_body(response) as body:
            yield response.status, headers_of(response), _guarded(body, answers)

    server = agent.Server(ask)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Loopback(f"http://127.0.0.1:{server.server_port}", answers)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _guarded(body: Iterator[bytes], answers: Answers) -> Iterator[Any]:
    try:
        yield from body
    except Exception as error:
        answers.keep(error)
        raise agent.Aborted from error
