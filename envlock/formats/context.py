"""What a Dockerfile is built from, as a list of files: an export writes a folder, a build sends a tar.

The tar is made while it is read, from the files where they are: no second copy on disk, nothing large in memory, and
the same bytes each time (POSIX.1-2001 pax format; owner, modes and times are not those of this machine).
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from envlock.errors import StorageError
from envlock.formats.requirements_txt import apt_txt, sha256sums
from envlock.model.plan import MetadataLayer, Plan, ProjectLayer, PythonLayer, SystemLayer

_CHUNK = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextFile:
    """One file of a build context."""

    path: str  # relative, "/"-separated
    content: bytes | Path
    size: int  # bytes
    sha256: str | None = None  # hex; held against the bytes while they are read
    executable: bool = False
    mtime: int = 0  # seconds


def context_files(
    plan: Plan, *, dockerfile: str, artifacts: Mapping[str, Path], project: Path
) -> Iterator[ContextFile]:
    """Yield the files that the plan's Dockerfile needs.

    ``artifacts`` has the path of every .deb and wheel by sha256 (hex), ``project`` is the project's folder.
    """
    yield _text("Dockerfile", dockerfile)
    for layer in plan.layers:
        match layer:
            case SystemLayer(debs=debs):
                yield _text("apt/SHA256SUMS", sha256sums(debs))
                yield _text("apt.txt", apt_txt(plan.lock))
                for deb in debs:
                    yield _artifact(f"apt/{deb.filename}", deb.sha256, artifacts)
            case PythonLayer(wheels=wheels) if wheels:
                installer = plan.lock.installer
                yield _artifact(f"installer/{installer.filename}", installer.sha256, artifacts)
                for wheel in wheels:
                    yield _artifact(f"wheels/{wheel.filename}", wheel.sha256, artifacts)
            case MetadataLayer(files=files):
                for name, content in files.items():
                    yield ContextFile(path=name, content=content, size=len(content), mtime=plan.project.epoch)
            case ProjectLayer(files=project_files):
                for file in project_files:
                    yield ContextFile(
                        path=f"project/{file.path}",
                        content=project / on_disk(file.path),
                        size=file.size,
                        sha256=file.sha256,
                        executable=file.executable,
                        mtime=plan.project.epoch,
                    )


def on_disk(path: str) -> str:
    """Return a file's path as this process names it: names are UTF-8 in an image, whatever the locale says here."""
    return os.fsdecode(path.encode())


def needed(plan: Plan) -> Mapping[str, str]:
    """Return sha256 → file name of everything that has to be fetched before a build."""
    files: dict[str, str] = {}
    for layer in plan.layers:
        if isinstance(layer, SystemLayer):
            files |= {deb.sha256: deb.filename for deb in layer.debs}
        if isinstance(layer, PythonLayer) and layer.wheels:
            files |= {wheel.sha256: wheel.filename for wheel in (plan.lock.installer, *layer.wheels)}
    return files


def chunks(file: ContextFile) -> Iterator[bytes]:
    """Yield a file's bytes; raises ``StorageError`` where it is gone, unreadable, or not what it was."""
    if isinstance(file.content, bytes):
        yield file.content
        return
    size, digest = 0, hashlib.sha256()
    try:
        with file.content.open("rb") as stream:
            while chunk := stream.read(min(_CHUNK, file.size - size + 1)):
                size += len(chunk)
                if size > file.size:
                    break
                digest.update(chunk)
                yield chunk
    except OSError as error:
        raise StorageError(f"{file.path} cannot be read: {error.strerror or error}") from error
    if size != file.size or (file.sha256 is not None and digest.hexdigest() != file.sha256):
        raise StorageError(f"{file.path} changed while it was being read", hint="run the command again")


def tar_stream(files: Iterable[ContextFile]) -> IO[bytes]:
    """Return a readable stream of a tar archive of the files, sorted by path; close it when done."""
    return io.BufferedReader(_Stream(_tar(sorted(files, key=lambda file: file.path))), buffer_size=_CHUNK)


def _tar(files: Iterable[ContextFile]) -> Iterator[bytes]:
    for file in files:
        header = tarfile.TarInfo(file.path)
        header.size = file.size
        header.mode = 0o755 if file.executable else 0o644
        header.mtime = file.mtime
        yield header.tobuf(tarfile.PAX_FORMAT)
        yield from chunks(file)
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


class _Stream(io.RawIOBase):
    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._source, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _text(path: str, text: str) -> ContextFile:
    content = text.encode()
    return ContextFile(path=path, content=content, size=len(content))


def _artifact(path: str, sha256: str, artifacts: Mapping[str, Path]) -> ContextFile:
    # Checked when it was fetched; its size is the stored file's own.
    place = artifacts[sha256]
    return ContextFile(path=path, content=place, size=place.stat().st_size)
