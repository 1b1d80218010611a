"""What a handler says to one request, with its failures turned into answers and remembered."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from envlock.errors import EnvlockError
from envlock.ports import GatewayRequest, GatewayResponse, Handler

BAD_GATEWAY = 502  # RFC 9110: what a server says that could not get a valid answer from the one behind it


class Answers:
    """A handler whose failures become 502, and are kept so that the real cause can be raised later."""

    def __init__(self, handler: Handler | None) -> None:
        self._handler = handler
        self._lock = threading.Lock()
        self._failure: Exception | None = None

    def respond(self, request: GatewayRequest) -> GatewayResponse:
        """Ask the handler; never raises."""
        if self._handler is None:
            return text(404, "nothing can be fetched here")
        try:
            return self._handler(request)
        except Exception as error:  # noqa: BLE001 - kept, and raised by ``failure``
            self.keep(error)
            message = error.message if isinstance(error, EnvlockError) else type(error).__name__
            return text(BAD_GATEWAY, message)

    def keep(self, error: Exception) -> None:
        """Remember a failure; one from here is worth more than a later one that it caused."""
        with self._lock:
            self._failure = error

    def failure(self) -> EnvlockError | None:
        """Return the handler's last ``EnvlockError``, if any; raises what is no ``EnvlockError``, for that is a bug."""
        with self._lock:
            error = self._failure
        if error is None or isinstance(error, EnvlockError):
            return error
        raise error

    def forget(self) -> None:
        """Forget earlier failures: they are not the cause of what happens from now on."""
        with self._lock:
            self._failure = None


def text(status: int, message: str) -> GatewayResponse:
    """Return a plain-text answer."""
    return GatewayResponse(
        status=status, headers={"Content-Type": "text/plain; charset=utf-8"}, body=(message.encode(),)
    )


def headers_of(response: GatewayResponse) -> dict[str, str]:
    """Return the answer's headers, with its length where all of it is here already."""
    headers = dict(response.headers)
    if "content-length" not in {name.lower() for name in headers} and isinstance(response.body, bytes | list | tuple):
        headers["Content-Length"] = str(sum(len(block) for block in blocks_of(response.body)))
    return headers


def blocks_of(body: Iterable[bytes]) -> Iterable[bytes]:
    """Return the body as blocks, also where it is a single ``bytes``."""
    single: object = body
    return (single,) if isinstance(single, bytes) else body


@contextmanager
def closing_body(response: GatewayResponse) -> Iterator[Iterator[bytes]]:
    """Iterate the body once and close it in any case."""
    try:
        yield iter(blocks_of(response.body))
    finally:
        close = getattr(response.body, "close", None)
        if close is not None:
            close()
