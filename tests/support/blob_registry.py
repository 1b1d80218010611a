"""A registry on loopback that speaks the push and pull of the OCI distribution spec, and misbehaves when told to."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class BlobRegistry:
    """What it holds, what it was asked, and how it misbehaves: ``fault(handler)`` is asked first, and True ends it."""

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)  # (repository, digest) → content
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    received: int = 0
    token: str | None = None
    login: tuple[str, str] | None = None  # the only one that gets the token
    scopes: list[list[str]] = field(default_factory=list)
    fault: Callable[[Any], bool] = lambda _: False
    mounts: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)
    host: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    strict: Callable[[str, str], bool] = lambda *_: True  # whether it has a blob that a manifest names

    def __post_init__(self) -> None:
        self.strict = lambda repository, digest: (repository, digest) in self.blobs

    def add(self, repository: str, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[repository, digest] = content
        return digest

    def count(self, beginning: str) -> int:
        return sum(1 for line in self.asked if line.startswith(beginning))


def _basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


@contextmanager
def blob_registry() -> Iterator[BlobRegistry]:
    registry = BlobRegistry()

    class Handler(_Handler):
        world = registry

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: BlobRegistry

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if not headers or "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def drop(self) -> None:
        """Hang up in the middle."""
        self.close_connection = True
        self.connection.close()

    def _serve(self) -> None:
        world = self.world
        self.parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(self.parts.query).items()}
        with world.lock:
            world.asked.append(f"{self.command} {self.path}")
        if self.parts.path == "/token":
            if world.login and self.headers.get("Authorization") != _basic(*world.login):
                self.answer(401)
                return
            world.scopes.append(parse_qs(self.parts.query).get("scope", []))
            self.answer(200, body=b'{"token": "%s"}' % (world.token or "").encode())
            return
        # A body that is left unread would be taken for the next request.
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if world.token and self.headers.get("Authorization") != f"Bearer {world.token}":
            challenge = f'Bearer realm="http://{world.host}/token",service="test",scope="repository:x:pull,push"'
            self.answer(401, {"WWW-Authenticate": challenge})
            return
        if world.fault(self):
            return
        for pattern, serve in (
            (r"/v2/(?P<name>.+)/blobs/uploads/(?P<upload>[^/]*)", self._upload),
            (r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})", self._blob),
            (r"/v2/(?P<name>.+)/manifests/(?P<target>[^/]+)", self._manifest),
        ):
            if found := re.fullmatch(pattern, self.parts.path):
                serve(**found.groupdict())
                return
        self.answer(404)

    def _blob(self, name: str, digest: str) -> None:
        content = self.world.blobs.get((name, digest))
        if content is None:
            self.answer(404)
            return
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        status = 206 if "Range" in self.headers else 200
        rest = content[begin:]
        self.answer(status, {"Content-Length": str(len(rest))}, rest)

    def _manifest(self, name: str, target: str) -> None:
        if self.command == "PUT":
            named = json.loads(self.body)
            parts = [part["digest"] for part in (named.get("config"), *named.get("layers", ())) if part]
            if not all(self.world.strict(name, part) for part in parts):
                self.answer(404, body=b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown"}]}')
                return
            digest = f"sha256:{hashlib.sha256(self.body).hexdigest()}"
            for key in (target, digest):
                self.world.manifests[name, key] = (self.headers["Content-Type"], self.body)
            self.answer(201, {"Docker-Content-Digest": digest})
            return
        if (name, target) not in self.world.manifests:
            self.answer(404)
            return
        kind, content = self.world.manifests[name, target]
        self.answer(200, {"Content-Type": kind, "Content-Length": str(len(content))}, content)

    def _upload(self, name: str, upload: str) -> None:
        world = self.world
        if self.command == "POST":
            if "mount" in self.query and world.mounts:
                source = world.blobs.get((self.query["from"], self.query["mount"]))
                if source is not None:
                    world.blobs[name, self.query["mount"]] = source
                    self.answer(201)
                    return
            upload = f"u{next(world.numbers)}"
            world.uploads[upload] = bytearray()
            self.answer(202, {"Location": f"/v2/{name}/blobs/uploads/{upload}?state=a%2Bb", "Range": "0-0"})
            return
        known = world.uploads.get(upload)
        if known is None:
            self.answer(404)
            return
        if self.command == "DELETE":
            del world.uploads[upload]
            self.answer(204)
        elif self.command == "GET":
            self.answer(204, self._place(name, upload, known))
        elif self.command == "PATCH":
            begin = int(self.headers["Content-Range"].split("-")[0])
            if begin != len(known):
                self.answer(416, self._place(name, upload, known))
                return
            known += self.body
            with world.lock:
                world.received += len(self.body)
            self.answer(202, self._place(name, upload, known))
        else:
            digest = f"sha256:{hashlib.sha256(known).hexdigest()}"
            if digest != self.query["digest"]:
                self.answer(400, body=b'{"errors": [{"code": "DIGEST_INVALID", "message": "provided digest"}]}')
                return
            world.blobs[name, digest] = bytes(known)
            del world.uploads[upload]
            self.answer(201, {"Docker-Content-Digest": digest})

    @staticmethod
    def _place(name: str, upload: str, known: bytearray) -> dict[str, str]:
        return {
            "Location": f"/v2/{name}/blobs/uploads/{upload}?state=a%2Bb",
            "Range": f"0-{max(len(known) - 1, 0)}",
        }
