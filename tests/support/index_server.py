"""A package index on 127.0.0.1 (PEP 503, 658, 691) with switches for everything that can go wrong.

::

    with index_server([wheel("demo", "1.0"), sdist("old", "2.0")]) as index:
        index.url                        # "http://127.0.0.1:PORT/simple/"
        index.switches.html_only = True  # may be changed while it runs
        index.count("/simple/demo/")     # how often a path was asked for
        index.requests                   # every request: (method, path, headers)

Ends with its context; ports are never fixed; nothing but the loopback interface is bound.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.packages import Package

JSON_TYPE = "application/vnd.pypi.simple.v1+json"


@dataclass
class Switches:
    """What the server does; change any of it at any time."""

    auth: tuple[str, str] | None = None  # (user, password): basic authentication is required for everything
    delay: float = 0.0  # seconds before each answer
    fail_status: int = 503  # what the failing answers say (429, 500, 503…)
    fail_times: int = 0  # that many of the next requests fail with ``fail_status``
    retry_after: str | None = None  # Retry-After of the failing answers
    drop_times: int = 0  # that many of the next requests get a closed connection and no answer
    cut_times: int = 0  # that many of the next *file* answers stop in the middle
    wrong_bytes: set[str] = field(default_factory=set)  # file names served with other bytes of the same length
    hashes: bool = True  # say sha256 in the pages
    sizes: bool = True  # say sizes (JSON only)
    html_only: bool = False  # know no JSON
    metadata: bool = True  # serve PEP 658 metadata
    upload_times: bool = True  # say upload times (JSON only)
    ranges: bool = True  # honour Range for files
    redirect_files_to: str | None = None  # base URL of another server: files are a 302 to the same path there
    tls: tuple[str, str] | None = None  # (certificate, key): PEM files; before the server starts only
    absolute_files: str | None = None  # base URL that file links point to (default: relative links)


@dataclass
class Index:
    """A running server and what it saw."""

    packages: list[Package]
    switches: Switches
    port: int = 0
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base(self) -> str:
        return f"{'https' if self.switches.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.base}/simple/"

    def url_with(self, user: str, password: str) -> str:
        """Return the index's URL with credentials in it."""
        return f"http://{user}:{password}@127.0.0.1:{self.port}/simple/"

    def count(self, path: str) -> int:
        """Return how often a path (exactly, or a prefix ending in "*") was asked for."""
        with self.lock:
            seen = [one for _, one, _ in self.requests]
        return sum(one == path or (path.endswith("*") and one.startswith(path[:-1])) for one in seen)

    def add(self, *packages: Package) -> None:
        self.packages.extend(packages)

    def take(self, switch: str) -> bool:
        """Use up one of a counting switch; return whether one was left."""
        with self.lock:
            left = getattr(self.switches, switch)
            if left > 0:
                setattr(self.switches, switch, left - 1)
            return bool(left > 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    index: Index

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        index, switches = self.index, self.index.switches
        path = unquote(urlsplit(self.path).path)
        with index.lock:
            index.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        if switches.delay:
            time.sleep(switches.delay)
        if index.take("drop_times"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if index.take("fail_times"):
            extra = {"Retry-After": switches.retry_after} if switches.retry_after else {}
            self._send(switches.fail_status, b"failing on purpose", **extra)
            return
        if switches.auth and not self._authorized(switches.auth):
            self._send(401, b"who are you", **{"WWW-Authenticate": 'Basic realm="test"'})
            return
        if path.startswith("/simple/"):
            self._page(path.removeprefix("/simple/").strip("/"))
        elif path.startswith("/files/"):
            self._file(path.removeprefix("/files/"))
        else:
            self._send(404, b"nothing here")

    def _authorized(self, auth: tuple[str, str]) -> bool:
        expected = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        return self.headers.get("Authorization") == expected

    def _page(self, name: str) -> None:
        packages = [one for one in self.index.packages if one.name == name]
        if not packages:
            self._send(404, b"no such project")
            return
        wants_json = JSON_TYPE in self.headers.get("Accept", "") and not self.index.switches.html_only
        if wants_json:
            self._send(200, json.dumps(self._json(name, packages)).encode(), **{"Content-Type": JSON_TYPE})
        else:
            self._send(200, self._html(packages).encode(), **{"Content-Type": "text/html; charset=utf-8"})

    def _link(self, package: Package) -> str:
        prefix = self.index.switches.absolute_files or "../.."
        return f"{prefix}/files/{package.filename}"

    def _json(self, name: str, packages: Iterable[Package]) -> dict[str, object]:
        switches = self.index.switches
        files = []
        for package in packages:
            file: dict[str, object] = {
                "filename": package.filename,
                "url": self._link(package),
                "hashes": {"sha256": package.sha256} if switches.hashes else {},
                "yanked": package.yanked,
            }
            if switches.sizes:
                file["size"] = len(package.content)
            if package.requires_python:
                file["requires-python"] = package.requires_python
            if switches.upload_times and package.uploaded:
                file["upload-time"] = package.uploaded
            if switches.metadata and package.is_wheel:
                file["core-metadata"] = {"sha256": hashlib.sha256(package.metadata).hexdigest()}
            files.append(file)
        return {"meta": {"api-version": "1.1"}, "name": name, "files": files}

    def _html(self, packages: Iterable[Package]) -> str:
        switches = self.index.switches
        lines = ["<!DOCTYPE html><html><body>"]
        for package in packages:
            fragment = f"#sha256={package.sha256}" if switches.hashes else ""
            attributes = ""
            if package.requires_python:
                attributes += f' data-requires-python="{html.escape(package.requires_python)}"'
            if switches.metadata and package.is_wheel:
                attributes += f' data-core-metadata="sha256={hashlib.sha256(package.metadata).hexdigest()}"'
            if package.yanked:
                attributes += f' data-yanked="{html.escape(str(package.yanked))}"'
            lines.append(f'<a href="{self._link(package)}{fragment}"{attributes}>{package.filename}</a><br/>')
        return "\n".join([*lines, "</body></html>"])

    def _file(self, filename: str) -> None:
        switches = self.index.switches
        if switches.redirect_files_to:
            self._send(302, b"", Location=f"{switches.redirect_files_to}/files/{filename}")
            return
        wanted = filename.removesuffix(".metadata")
        package = next((one for one in self.index.packages if one.filename == wanted), None)
        if package is None or (filename != wanted and not switches.metadata):
            self._send(404, b"no such file")
            return
        content = package.metadata if filename != wanted else package.content
        if filename in switches.wrong_bytes:
            content = b"X" * len(content)
        if filename == wanted and self.index.take("cut_times"):
            self._send(200, content, cut=len(content) // 2)
            return
        self._ranged(content)

    def _ranged(self, content: bytes) -> None:
        header = self.headers.get("Range", "")
        if not (self.index.switches.ranges and header.startswith("bytes=")):
            self._send(200, content)
            return
        first, _, last = header.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        end = min(int(last), len(content) - 1) if first and last else len(content) - 1
        if start >= len(content):
            self._send(416, b"", **{"Content-Range": f"bytes */{len(content)}"})
            return
        self._send(206, content[start : end + 1], **{"Content-Range": f"bytes {start}-{end}/{len(content)}"})

    def _send(self, status: int, body: bytes, *, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
            self.wfile.flush()
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients hang up on purpose."""


@contextmanager
def index_server(packages: Iterable[Package] = (), **switches: object) -> Iterator[Index]:
    """Serve packages until the context ends; keyword arguments set ``Switches``."""
    index = Index(packages=list(packages), switches=Switches(**switches))  # type: ignore[arg-type]
    handler = type("Handler", (_Handler,), {"index": index})
    server = _Server(("127.0.0.1", 0), handler)
    index.port = server.server_address[1]
    if index.switches.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*index.switches.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def self_signed(folder: Path) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1 that nobody knows; return the PEM files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")
