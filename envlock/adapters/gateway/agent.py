"""The gateway's end inside a container: a small HTTP server whose requests are answered at the far end of stdin/stdout.

This file is run as it stands with ``python -c`` by whatever Python 3.8 or newer the image has, so it imports nothing
but the standard library. Its HTTP half also serves on this machine's loopback (see ``loopback``).

A frame is 1 byte kind, 4 bytes stream, 4 bytes length (big-endian), then the payload. A stream is one HTTP request;
HELLO uses stream 0. A body flows by credit, so that one slow client can neither fill the agent's memory nor hold up the
others.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, TYPE_CHECKING, Any

FRAME = struct.Struct(">BII")
HELLO, REQUEST, CANCEL, CREDIT = 1, 2, 3, 4  # from the agent
HEAD, BODY, END, ABORT = 16, 17, 18, 19  # from the host
WINDOW = 4 << 20  # bytes of a body that may be under way, unacknowledged
PORT = 8629
BODILESS = (204, 304)
OURS = ("connection", "transfer-encoding", "date", "server")  # headers that belong to one connection (RFC 9110, 7.6.1)

if TYPE_CHECKING:
    Answer = tuple[int, Mapping[str, str], Iterable[bytes]]  # status, headers, body


class Aborted(Exception):
    """The answer broke off: the client must see a broken connection, never a short file that looks whole."""


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive and pipelining; each request is answered by ``server.ask``."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a GET or HEAD."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            self.close_connection = True  # a body that nobody reads must not be taken for the next request
        try:
            with self.server.ask(self.command, self.path, headers) as (status, answer, body):
                length = next((int(value) for name, value in answer.items() if name.lower() == "content-length"), None)
                bodiless = self.command == "HEAD" or status in BODILESS
                chunked = self.head(status, answer, chunked=length is None and not bodiless)
                if not bodiless:
                    self.body(body, length, chunked=chunked)
        except (Aborted, OSError):
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def head(self, status: int, headers: Mapping[str, str], *, chunked: bool) -> bool:
        """Send status and headers; return whether the body goes in chunks (without: up to the connection's end)."""
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in OURS:
                self.send_header(name, value)
        if chunked and self.request_version == "HTTP/1.0":
            chunked = False
            self.close_connection = True
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        return chunked

    def body(self, blocks: Iterable[bytes], length: int | None, *, chunked: bool) -> None:
        """Send the body; raises ``Aborted`` where it is not as long as its header said."""
        sent = 0
        for block in blocks:
            if block:
                sent += len(block)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        if length is not None and sent != length:
            raise Aborted
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: object) -> None:
        """Say nothing: stderr is for faults."""


class Server(ThreadingHTTPServer):
    """A threaded server on loopback; ``ask(method, path, headers)`` gives a context manager of an ``Answer``."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, ask: Callable[[str, str, dict[str, str]], AbstractContextManager[Answer]], port: int = 0
    ) -> None:
        self.ask = ask
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self) -> None:
        """Bind without http.server's reverse lookup of the host's name: that can take seconds without a network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over clients that hang up; show anything else, for it is a bug."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Stream:
    """One request under way, as a context manager of what arrives for it."""

    def __init__(self, link: Link, number: int) -> None:
        self.link = link
        self.number = number
        self.frames: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self.done = False

    def __enter__(self) -> Answer:
        """Wait for the answer's head; raises ``Aborted`` where there is none."""
        kind, payload = self.take()
        if kind != HEAD:
            raise Aborted
        answer = json.loads(payload)
        return answer["status"], answer["headers"], self.body()

    def take(self) -> tuple[int, bytes]:
        """Wait for the next frame."""
        kind, payload = self.frames.get()
        self.done = kind in (END, ABORT)
        return kind, payload

    def body(self) -> Iterator[bytes]:
        """Yield the blocks of the body, giving credit for what the client has taken."""
        owed = 0
        while True:
            kind, payload = self.take()
            if kind == END:
                return
            if kind != BODY:
                raise Aborted
            yield payload
            owed += len(payload)
            if owed >= WINDOW // 4:
                self.link.send(CREDIT, self.number, struct.pack(">I", owed))
                owed = 0

    def __exit__(self, *_: object) -> None:
        """Close; where the answer is still coming, say that nobody waits for it."""
        self.link.streams.pop(self.number, None)
        if not self.done:
            self.link.send(CANCEL, self.number, b"")


class Link:
    """Frames over a pair of binary files."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self.reader = reader
        self.writer = writer
        self.lock = threading.Lock()
        self.streams: dict[int, Stream] = {}
        self.last = 0

    def send(self, kind: int, number: int, payload: bytes) -> None:
        """Send one frame, whole."""
        with self.lock:
            self.writer.write(FRAME.pack(kind, number, len(payload)) + payload)
            self.writer.flush()

    def ask(self, method: str, path: str, headers: dict[str, str]) -> Stream:
        """Pass a request on."""
        with self.lock:
            self.last += 1
            stream = self.streams[self.last] = Stream(self, self.last)
        request = {"method": method, "path": path, "headers": headers}
        self.send(REQUEST, stream.number, json.dumps(request).encode())
        return stream

    def pump(self) -> None:
        """Hand frames to their streams until the host's end closes."""
        while True:
            header = self.reader.read(FRAME.size)
            if len(header) < FRAME.size:
                return
            kind, number, length = FRAME.unpack(header)
            payload = self.reader.read(length)
            stream = self.streams.get(number)
            if stream is not None:
                stream.frames.put((kind, payload))


def main() -> None:
    """Serve until stdin closes, which it does when the host's program ends, however it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as process 1, orphans become ours: the kernel is to reap them
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that prints can disturb the frames
    link = Link(os.fdopen(0, "rb", buffering=1 << 20), frames)
    server = Server(link.ask, PORT)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hello = {"python": list(sys.version_info[:3]), "executable": sys.executable, "port": server.server_port}
    link.send(HELLO, 0, json.dumps(hello).encode())
    link.pump()
    os._exit(0)  # threads may still wait for answers that will never come


if __name__ == "__main__":
    main()
