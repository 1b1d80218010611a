"""A registry on loopback that holds what it is given, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

Answer = tuple[int, dict[str, str], bytes]
Misbehaviour = Callable[[BaseHTTPRequestHandler], Answer | None]  # None: answer as usual


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class FakeRegistry:
    """Its content by path, its address, and everything that it was asked."""

    port: int = 0
    content: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # path → content type, bytes
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    misbehave: Misbehaviour = lambda _: None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def blob(self, path: str, content: bytes) -> dict[str, Any]:
        self.content[f"/v2/{path}/blobs/{digest_of(content)}"] = ("application/octet-stream", content)
        return {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}

    def manifest(
        self, path: str, data: object, *, media_type: str = OCI_MANIFEST, tag: str | None = None
    ) -> dict[str, Any]:
        content = json.dumps(data).encode()
        for name in filter(None, (tag, digest_of(content))):
            self.content[f"/v2/{path}/manifests/{name}"] = (media_type, content)
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    def image(
        self,
        path: str,
        *,
        tag: str | None = None,
        architecture: str = "amd64",
        variant: str | None = None,
        layers: int = 2,
    ) -> dict[str, Any]:
        """Hold an image, and return the descriptor of its manifest."""
        config = {
            "os": "linux",
            "architecture": architecture,
            "config": {"Env": ["PATH=/bin", "A=b=c"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(b"%d" % n) for n in range(layers)]},
        }
        if variant:
            config["variant"] = variant
        data = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(path, json.dumps(config).encode()),
            "layers": [self.blob(path, b"layer %d" % n) for n in range(layers)],
        }
        found = self.manifest(path, data, tag=tag)
        platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
        return {**found, "platform": platform}


class Server(ThreadingHTTPServer):
    """The server of one fake registry."""

    daemon_threads = True

    def __init__(self, registry: FakeRegistry) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.registry = registry
        registry.port = self.server_port

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.remember()
        self.answer(self.server.registry.misbehave(self) or self.usual())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.remember(body=body.decode())
        self.answer(self.server.registry.misbehave(self) or (404, {}, b""))

    def remember(self, **more: str) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.registry.asked.append((self.path, headers | more))

    def usual(self) -> Answer:
        found = self.server.registry.content.get(self.path)
        if found is None:
            return 404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
        kind, content = found
        return 200, {"Content-Type": kind, "Docker-Content-Digest": digest_of(content)}, content

    def answer(self, answer: Answer) -> None:
        status, headers, content = answer
        if status == 0:  # hang up
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        if "Content-Length" in headers:  # another one than the content's
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    server = Server(registry)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
