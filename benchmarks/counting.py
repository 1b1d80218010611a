"""Counting what goes over a line: a socket whose connections go on to another one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measure import CommandFailed

Connect = Callable[[], socket.socket]


class Counter:
    """Passes bytes on, both ways, and counts those that go out."""

    def __init__(self, listener: socket.socket, connect: Connect) -> None:
        self._listener = listener
        self._connect = connect
        self._lock = threading.Lock()
        self.sent = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def taken(self) -> int:
        """Return what was counted since the last time."""
        with self._lock:
            count, self.sent = self.sent, 0
        return count

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed: it is over
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                far = self._connect()
            except OSError:
                return
            with far:
                back = threading.Thread(target=self._pass, args=(far, near, False), daemon=True)
                back.start()
                self._pass(near, far, True)
                back.join()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        """Pass on until the end, and pass that on as well: it may be the end of one direction only."""
        with suppress(OSError):
            while data := source.recv(1 << 18):
                if counted:
                    with self._lock:
                        self.sent += len(data)
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def counted_engine(host: str, folder: Path) -> Iterator[tuple[Counter, str]]:
    """Give a counter in front of an engine, and the DOCKER_HOST that leads through it."""
    parts = urlsplit(host)
    if parts.scheme != "unix":
        raise CommandFailed(f"what goes to {parts.scheme}:// engines is not counted")
    path = folder / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield Counter(listener, lambda: _unix(parts.path)), f"unix://{path}"
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def counted_address(host: str, port: int) -> Iterator[tuple[Counter, int]]:
    """Give a counter in front of an address, and the port of loopback that leads through it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Counter(listener, lambda: socket.create_connection((host, port))), listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection
