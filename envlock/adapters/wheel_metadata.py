"""A wheel's METADATA without the wheel: only the end of the file and one member are read (zip's directory is there)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import IO

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

_TAIL = 64 * 1024  # bytes: the directory of nearly every wheel, and METADATA where it is among the last members
_LARGEST = 16 * 1024 * 1024  # bytes of METADATA


class BadWheel(ValueError):
    """The file is not the wheel that its name says."""


def read_metadata(file: IO[bytes], *, filename: str) -> bytes:
    """Return METADATA from inside a wheel; raises ``BadWheel``."""
    try:
        name = parse_wheel_filename(filename)[0]
        with zipfile.ZipFile(file) as archive:
            members = [
                one
                for one in archive.infolist()
                if one.filename.count("/") == 1
                and one.filename.endswith(".dist-info/METADATA")
                and canonicalize_name(one.filename.partition("-")[0]) == name
            ]
            if len(members) != 1:
                raise BadWheel(f"{filename} has {len(members)} METADATA files")
            if members[0].file_size > _LARGEST:
                raise BadWheel(f"{filename} has a METADATA file of {members[0].file_size:,} bytes")
            return archive.read(members[0])
    except (zipfile.BadZipFile, InvalidWheelFilename, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadWheel(f"{filename} is not a wheel: {error}") from error


class RangeFile(io.RawIOBase):
    """A seekable file whose parts are fetched when they are read.

    ``fetch(start, end)`` returns the bytes from ``start`` up to (and without) ``end``; ``tail`` is what is here already
    of the end of the file.
    """

    def __init__(self, *, size: int, tail: bytes, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._fetch = fetch
        self._parts = [(size - len(tail), tail)]
        self._position = 0

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def seekable(self) -> bool:
        """Return that it is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move without fetching anything."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Return where it stands."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read from what is here, or fetch."""
        end = self._size if size is None or size < 0 else min(self._size, self._position + size)
        start, self._position = self._position, max(self._position, end)
        if start >= end:
            return b""
        for offset, part in self._parts:
            if offset <= start and end <= offset + len(part):
                return part[start - offset : end - offset]
        # a little more than asked for: zipfile reads a member's header first, then its content
        stop = min(self._size, max(end, start + _TAIL // 4))
        part = self._fetch(start, stop)
        if len(part) != stop - start:
            raise EOFError("the server sent another part than it was asked for")
        self._parts.append((start, part))
        return part[: end - start]

    @staticmethod
    def tail_size() -> int:
        """Return how much of a file's end to ask for first, in bytes."""
        return _TAIL
