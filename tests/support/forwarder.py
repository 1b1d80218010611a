"""Another way to the same engine: a port of loopback whose connections go on to the engine's own address."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from envlock.adapters.engine.endpoint import find_endpoint


def connect_to_engine() -> socket.socket:
    host = find_endpoint(os.environ).host
    parts = urlsplit(host)
    if parts.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(parts.path)
        return connection
    return socket.create_connection((parts.hostname, parts.port))


class Forwarder:
    """Passes bytes on, both ways, until it is told to cut all lines."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._ended = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections that there are."""
        for connection in list(self._open):
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        self._ended = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._ended:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(near,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, near: socket.socket) -> None:
        far = connect_to_engine()
        try:
            if self._tls is not None:
                near = self._tls.wrap_socket(near, server_side=True)
            self._open |= {near, far}
            self._pass(near, far)
        except OSError:
            pass
        finally:
            self._open -= {near, far}
            near.close()
            far.close()

    @staticmethod
    def _pass(near: socket.socket, far: socket.socket) -> None:
        """Copy with one thread, for a TLS socket is not for two."""
        other = {near: far, far: near}
        while True:
            pending = [near] if isinstance(near, ssl.SSLSocket) and near.pending() else []
            for source in pending or select.select([near, far], [], [])[0]:
                data = source.recv(1 << 16)
                if not data:
                    return
                other[source].sendall(data)


@contextmanager
def forwarder(tls: ssl.SSLContext | None = None) -> Iterator[Forwarder]:
    running = Forwarder(tls)
    try:
        yield running
    finally:
        running.close()
