"""Two-way streams with the engine (Engine API, "attach to a container": hijacked connections and their framing)."""

from __future__ import annotations

import io
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from docker.errors import create_api_error_from_http_exception
from requests import HTTPError

STDOUT, STDERR = 1, 2
_HEADER = struct.Struct(">BxxxL")  # stream, 3 zero bytes, length


class Duplex:
    """A hijacked connection: framed stdout and stderr towards us, raw stdin away from us.

    The SDK's own reader loses what arrived together with the response's header, and waits on the socket where TLS has
    the data already: so reading goes through the response's buffered file.
    """

    def __init__(self, response: Any) -> None:
        self._response = response
        self._socket = response.raw.connection.sock
        self._file = response.raw._fp.fp  # noqa: SLF001 - there is no public way to it
        self._send = self._socket.sendall
        if self._socket.family in (socket.AF_INET, socket.AF_INET6):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # so that a peer that is gone is noticed
        if isinstance(self._socket, ssl.SSLSocket):
            channel = TlsChannel(self._socket, _buffered(self._file, self._socket))
            self._file, self._send = io.BufferedReader(channel), channel.sendall
        else:
            self._socket.settimeout(None)  # programs may be silent for as long as they like

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, bytes) until the other side ends."""
        while len(header := self._file.read(_HEADER.size)) == _HEADER.size:
            stream, length = _HEADER.unpack(header)
            yield stream, self._file.read(length)

    def send(self, data: bytes) -> None:
        """Write to the container's stdin."""
        self._send(data)

    def hang_up(self) -> None:
        """End the stream: a reader in another thread finds its end."""
        with suppress(OSError):
            # Not the method of a TLS socket, which takes its state away under the reader.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up, and let go of the connection; once, and by whoever opened it."""
        self.hang_up()
        self._response.raw.connection.close()
        self._response.close()


class TlsChannel(io.RawIOBase):
    """Reading and writing of one TLS connection by two threads, which OpenSSL does not allow at the same time."""

    def __init__(self, connection: ssl.SSLSocket, begun: bytes) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._begun = begun
        self._lock = threading.Lock()

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, target: Any) -> int:
        """Wait for data."""
        if self._begun:
            taken, self._begun = self._begun[: len(target)], self._begun[len(target) :]
            target[: len(taken)] = taken
            return len(taken)
        while True:
            with self._lock, suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return self._connection.recv_into(target)
            self._wait(select.POLLIN)

    def sendall(self, data: bytes) -> None:
        """Write all of it."""
        rest = memoryview(data)
        while rest:
            with self._lock, suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                rest = rest[self._connection.send(rest) :]
                continue
            self._wait(select.POLLOUT)

    def _wait(self, event: int) -> None:
        if self._connection.fileno() < 0:
            raise ConnectionAbortedError("the connection was closed")
        poll = select.poll()
        poll.register(self._connection, event)
        poll.poll(1000)  # milliseconds; a renegotiation may need the other direction first


def _buffered(file: Any, connection: ssl.SSLSocket) -> bytes:
    """Return what arrived together with the response's header."""
    connection.setblocking(False)
    try:
        return bytes(file.peek(1))
    except ssl.SSLWantReadError:
        return b""


def hijack(
    api: Any, path: str, *, params: dict[str, int] | None = None, body: dict[str, object] | None = None
) -> Duplex:
    """Make a request that turns its connection into a stream; raises what the SDK raises."""
    response = api.post(
        f"{api.base_url}/v{api.api_version}{path}",
        params=params,
        json=body,
        headers={"Connection": "Upgrade", "Upgrade": "tcp"},
        stream=True,
        timeout=api.timeout,
    )
    try:
        response.raise_for_status()
    except HTTPError as error:
        raise create_api_error_from_http_exception(error) from error
    return Duplex(response)


def reader_of(frames: Iterator[tuple[int, bytes]], *, stderr: Callable[[bytes], None]) -> Callable[[int], bytes]:
    """Return a function that reads exactly n bytes of stdout (fewer at its end) and passes stderr aside."""
    buffer = bytearray()

    def receive(wanted: int) -> bytes:
        while len(buffer) < wanted:
            stream, data = next(frames, (0, b""))
            if stream == 0:
                break
            if stream == STDERR:
                stderr(data)
            else:
                buffer.extend(data)
        taken = bytes(buffer[:wanted])
        del buffer[:wanted]
        return taken

    return receive
