"""Files into and out of a container, as tar streams (Engine API, "archive"); never unpacked onto this machine."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import requests
from docker.errors import create_api_error_from_http_exception

from envlock.errors import StorageError

_BLOCK = 256 << 10
_TAR_BLOCK = 512
_MTIME = 315619200  # seconds, 1980-01-02: the same each time, and a date that zip files can hold in every time zone


def tar_of(files: Mapping[str, bytes | Path], *, executable: Iterable[str] = ()) -> Iterator[bytes]:
    """Yield a tar with these files (absolute path → bytes, or a file of this machine); big files are never in memory.

    Everything belongs to root; programs are 0755, the rest 0644. Folders come into being as they are needed.
    """
    programs = set(executable)
    for path, content in sorted(files.items()):
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.mode = 0o755 if path in programs else 0o644
        entry.mtime = _MTIME
        if isinstance(content, Path):
            yield from _file_entry(entry, content)
        else:
            entry.size = len(content)
            yield _header(entry)
            yield content
            yield _padding(entry.size)
    yield b"\0" * (2 * _TAR_BLOCK)


def _file_entry(entry: tarfile.TarInfo, path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            entry.size = left = path.stat().st_size
            yield _header(entry)
            while left and (block := file.read(min(_BLOCK, left))):
                left -= len(block)
                yield block
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    if left:
        raise StorageError(f"{path} became shorter while it was read")
    yield _padding(entry.size)


def _header(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return b"\0" * (-size % _TAR_BLOCK)


class _Reader(io.RawIOBase):
    """The blocks of an HTTP answer as a file."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        taken = self._rest[: len(target)]
        target[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


@contextmanager
def archive_of(api: Any, container: str, path: str) -> Iterator[tuple[dict[str, Any], Iterable[bytes]]]:
    """Give what the engine says of a path in a container (name, size, mode, linkTarget), and a tar of it.

    The SDK's own way leaves the connection open where the archive is not read to its end.
    """
    response = api.get(
        f"{api.base_url}/v{api.api_version}/containers/{container}/archive",
        params={"path": path},
        headers={"Accept-Encoding": "identity"},
        stream=True,
        timeout=api.timeout,
    )
    with closing(response):
        try:
            response.raise_for_status()
        except requests.HTTPError as error:
            raise create_api_error_from_http_exception(error) from error
        stat = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
        yield stat, response.iter_content(_BLOCK)


def stream_of(blocks: Iterable[bytes]) -> IO[bytes]:
    """Return blocks as a file to read from."""
    return io.BufferedReader(cast("io.RawIOBase", _Reader(blocks)), _BLOCK)


def entries_of(blocks: Iterable[bytes]) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes] | None]]:
    """Yield (path below the archive's top, entry, content of a regular file) from a streamed tar.

    Nothing is written anywhere, so names need no more care than to be without "..": those are passed over.
    """
    with tarfile.open(fileobj=stream_of(blocks), mode="r|") as archive:
        for entry in archive:
            parts = [part for part in entry.name.split("/") if part not in ("", ".")]
            if ".." in parts:
                continue
            yield "/".join(parts[1:]), entry, archive.extractfile(entry) if entry.isreg() else None
