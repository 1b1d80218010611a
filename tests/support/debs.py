"""Tiny .debs, apt archives of them, signed, and a server on 127.0.0.1 that can be told to misbehave."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

from tests.support.openpgp import SigningKey, signing_key


@dataclass(frozen=True, kw_only=True)
class DebFile:
    """One built .deb and what an index says of it."""

    name: str
    version: str
    architecture: str
    control: str
    content: bytes
    path: str  # in the archive

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def make_deb(
    name: str,
    version: str = "1.0-1",
    *,
    architecture: str = "amd64",
    files: Mapping[str, bytes] | None = None,
    conffiles: tuple[str, ...] = (),
    scripts: Mapping[str, str] | None = None,
    **fields: str,
) -> DebFile:
    """Build a .deb; ``fields`` are further control fields (``depends="libfoo (>= 1)"``, ``pre_depends=…``)."""
    named = {key.replace("_", "-").title(): value for key, value in fields.items()}
    control = "".join(
        f"{key}: {value}\n"
        for key, value in {
            "Package": name,
            "Version": version,
            "Architecture": architecture,
            "Maintainer": "Test <test@example.org>",
            "Section": "misc",
            "Priority": "optional",
            **named,
            "Description": f"the package {name}",
        }.items()
    )
    inside = {"control": control.encode(), **{key: value.encode() for key, value in (scripts or {}).items()}}
    if conffiles:
        inside["conffiles"] = "".join(f"{path}\n" for path in conffiles).encode()
    data = files if files is not None else {f"/usr/share/{name}/version": version.encode()}
    content = _ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar.gz": _tar_gz(inside, executable=tuple(scripts or ())),
            "data.tar.gz": _tar_gz(data),
        }
    )
    stem = f"{name}_{version.partition(':')[2] or version}_{architecture}"
    folder = f"pool/main/{name[0]}/{named.get('Source', name).split()[0]}"
    return DebFile(
        name=name,
        version=version,
        architecture=architecture,
        control=control,
        content=content,
        path=f"{folder}/{stem}.deb",
    )


def _tar_gz(files: Mapping[str, bytes], *, executable: tuple[str, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        made: set[str] = set()
        for path, content in sorted(files.items()):
            parts = path.lstrip("/").split("/")
            for depth in range(1, len(parts)):
                folder = "./" + "/".join(parts[:depth])
                if folder not in made:
                    made.add(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo("./" + "/".join(parts))
            entry.size, entry.mode = len(content), 0o755 if path in executable else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _ar(members: Mapping[str, bytes]) -> bytes:
    content = b"!<arch>\n"
    for name, data in members.items():
        content += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return content


@dataclass
class Archive:
    """An apt archive in memory; its files are made anew whenever they are asked for."""

    debs: list[DebFile] = field(default_factory=list)
    suite: str = "stable"
    component: str = "main"
    architectures: tuple[str, ...] = ("amd64",)
    key: SigningKey | None = field(default_factory=lambda: signing_key("Test Archive <archive@example.org>"))
    valid_until: float | None = None  # seconds since the epoch
    snapshots: str | None = None  # Release field
    flat: bool = False
    sha256: bool = True  # in the Packages index
    other_packages: bytes | None = None  # served in the place of the right index

    def file(self, path: str) -> bytes | None:
        """Return what the archive has at a path."""
        found = {deb.path: deb.content for deb in self.debs}
        return found.get(path) or self._indexes().get(path)

    def _indexes(self) -> dict[str, bytes]:
        top = "" if self.flat else f"dists/{self.suite}/"
        packages: dict[str, bytes] = {}
        for architecture in ("",) if self.flat else self.architectures:
            name = "Packages" if self.flat else f"{self.component}/binary-{architecture}/Packages"
            packages[name] = self._packages(architecture).encode()
            packages[f"{name}.gz"] = gzip.compress(packages[name], mtime=0)
        release = self._release(packages)
        if self.other_packages is not None:
            for name in packages:
                packages[name] = gzip.compress(self.other_packages) if name.endswith(".gz") else self.other_packages
        found = {top + name: content for name, content in packages.items()}
        found[f"{top}Release"] = release.encode()
        if self.key is not None:
            found[f"{top}InRelease"] = self.key.clear_sign(release).encode()
            found[f"{top}Release.gpg"] = self.key.detach_sign(release.encode())
        return found

    def _packages(self, architecture: str) -> str:
        stanzas = []
        for deb in self.debs:
            if not architecture or deb.architecture in (architecture, "all"):
                hashes = f"MD5sum: {hashlib.md5(deb.content).hexdigest()}\n"
                hashes += f"SHA256: {deb.sha256}\n" if self.sha256 else ""
                stanzas.append(f"{deb.control}Filename: {deb.path}\nSize: {len(deb.content)}\n{hashes}")
        return "\n".join(stanzas)

    def _release(self, files: Mapping[str, bytes]) -> str:
        lines = [
            "Origin: Test",
            "Label: Test",
            f"Suite: {self.suite}",
            f"Codename: {self.suite}",
            f"Date: {_utc(time.time() - 3600 if self.valid_until is None else self.valid_until - 3600)}",
        ]
        lines += [f"Valid-Until: {_utc(self.valid_until)}"] if self.valid_until is not None else []
        lines += [f"Snapshots: {self.snapshots}"] if self.snapshots else []
        lines += [f"Architectures: {' '.join(self.architectures)}", f"Components: {self.component}", "SHA256:"]
        lines += [
            f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}" for name, content in sorted(files.items())
        ]
        return "\n".join(lines) + "\n"


def _utc(seconds: float) -> str:
    return formatdate(seconds, usegmt=True).replace("GMT", "UTC")


@dataclass
class ArchiveServer:
    """Archives by their first path component, served over HTTP."""

    archives: dict[str, Archive]
    url: str = ""
    missing: set[str] = field(default_factory=set)  # endings of paths that are answered with 404
    dropped: dict[str, int] = field(default_factory=dict)  # ending → how often the connection breaks half way
    statuses: dict[str, int] = field(default_factory=dict)  # ending → another status
    replaced: dict[str, bytes] = field(default_factory=dict)  # ending → other content
    asked: list[str] = field(default_factory=list)

    def uri(self, name: str) -> str:
        return f"{self.url}/{name}"

    def content(self, path: str) -> bytes | None:
        """Return the file at a path; None for 404."""
        if any(path.endswith(ending) for ending in self.missing):
            return None
        for ending, content in self.replaced.items():
            if path.endswith(ending):
                return content
        for name, archive in self.archives.items():
            if path.startswith(f"/{name}/"):
                return archive.file(path.removeprefix(f"/{name}/").lstrip("/").removeprefix("./"))
        return None

    def breaks(self, path: str) -> bool:
        """Return whether this answer is to break half way."""
        for ending, left in self.dropped.items():
            if path.endswith(ending) and left:
                self.dropped[ending] = left - 1
                return True
        return False


@contextmanager
def serve(**archives: Archive) -> Iterator[ArchiveServer]:
    """Serve archives on 127.0.0.1, each below its name."""
    state = ArchiveServer(archives={name.replace("_", "-"): archive for name, archive in archives.items()})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(self.path)
            state.asked.append(path)
            for ending, status in state.statuses.items():
                if path.endswith(ending):
                    self._answer(status, b"no")
                    return
            content = state.content(path)
            if content is None:
                self._answer(404, b"not found")
                return
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0
            if state.breaks(path):
                self.send_response(200 if not start else 206)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : start + (len(content) - start) // 2])
                self.close_connection = True
                return
            self._answer(206 if start else 200, content[start:])

        do_HEAD = do_GET  # noqa: N815 - the base class's name

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
