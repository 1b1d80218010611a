"""A tar archive, the same bytes for the same files: POSIX.1-1988 (ustar), with pax headers (POSIX.1-2001) where needed.

Everything belongs to root and has one time. Only what a layer needs is here: folders, regular files, symbolic links.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from envlock.formats.layer_tar import EPOCH

BLOCK = 512
_RECORD = 20 * BLOCK  # tar(5): an archive is padded to whole records
_FLUSH = 1 << 20  # bytes
_LARGE = 64 << 10  # bytes that are not worth copying together with others
_OCTAL_SIZE = 8**11 - 1  # what a size field can say

_FOLDER, _FILE, _LINK, _PAX = b"5", b"0", b"2", b"x"
_OWNER = b"0000000\0" * 2
_TIME = b"%011o\0" % EPOCH
_BEFORE_NAME = b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
_SPACES = b" " * 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a tar came out as."""

    diff_id: str  # "sha256:<hex>"
    size: int  # bytes


class TarWriter:
    """Writes a tar to a binary file as a stream, hashing it on the way.

    Paths are relative, "/"-separated and without "." and ".."; the folders that a path needs are written before it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self._folders: set[str] = {""}
        self._size = 0  # bytes, with what is pending

    @property
    def offset(self) -> int:
        """Return how many bytes were written so far."""
        return self._size

    def folder(self, path: str) -> None:
        """Write a folder, and those above it, unless they are there."""
        if path in self._folders:
            return
        self._folders.add(path)
        self.folder(path.rpartition("/")[0])
        self._add(_header(path + "/", _FOLDER, mode=0o755))

    def file(self, path: str, content: Iterable[bytes], *, size: int, executable: bool = False) -> None:
        """Write a regular file of ``size`` bytes; raises ``ValueError`` where ``content`` is not that long."""
        self.folder(path.rpartition("/")[0])
        self._add(_header(path, _FILE, size=size, mode=0o755 if executable else 0o644))
        end = self._size + size
        for block in content:
            self._add(block)
        if self._size != end:
            raise ValueError(f"{path}: {size} bytes were announced, {self._size - end + size} came")
        self._add(bytes(-size % BLOCK))

    def symlink(self, path: str, target: str) -> None:
        """Write a symbolic link."""
        self.folder(path.rpartition("/")[0])
        self._add(_header(path, _LINK, mode=0o777, target=target))

    def entries(self, content: Iterable[bytes]) -> None:
        """Copy whole entries as they are, out of another tar by this writer."""
        for block in content:
            self._add(block)
        if self._size % BLOCK:
            raise ValueError("not whole entries")

    def flush(self) -> Written:
        """Hand everything to the file, and say what was written so far: entries without an end."""
        self._hand_over()
        return Written(diff_id=f"sha256:{self._digest.hexdigest()}", size=self._size)

    def finish(self) -> Written:
        """Write the archive's end (the file stays open)."""
        self._add(bytes(2 * BLOCK))
        self._add(bytes(-self._size % _RECORD))
        return self.flush()

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if len(data) >= _LARGE:
            self._hand_over()
            self._digest.update(data)
            self._file.write(data)
            return
        self._pending += data
        if len(self._pending) >= _FLUSH:
            self._hand_over()

    def _hand_over(self) -> None:
        self._digest.update(self._pending)
        self._file.write(self._pending)
        self._pending = bytearray()


def _header(path: str, kind: bytes, *, size: int = 0, mode: int, target: str = "") -> bytes:
    """Return a header, after a pax header where ustar's fields do not hold what it says."""
    name, long_target = path.encode(), target.encode()
    extended: dict[str, bytes] = {}
    split = _split(name) if path.isascii() else None
    if split is None:
        extended["path"] = name
        split = (b"", _short(path))
    if not target.isascii() or len(long_target) > 100:  # noqa: PLR2004 - the field's width
        extended["linkpath"] = long_target
        long_target = _short(target)
    shown = size
    if size > _OCTAL_SIZE:
        extended["size"] = b"%d" % size
        shown = 0
    own = _ustar(split, kind, size=shown, mode=mode, target=long_target)
    return (_pax(path, extended) + own) if extended else own


def _ustar(name: tuple[bytes, bytes], kind: bytes, *, size: int, mode: int, target: bytes = b"") -> bytes:
    prefix, rest = name
    start = rest.ljust(100, b"\0") + b"%07o\0" % mode + _OWNER + b"%011o\0" % size + _TIME
    end = kind + target.ljust(100, b"\0") + _BEFORE_NAME + prefix.ljust(167, b"\0")
    total = sum(start) + sum(_SPACES) + sum(end)
    return start + b"%06o\0 " % total + end


def _pax(path: str, extended: dict[str, bytes]) -> bytes:
    """Return a pax header block with its content (POSIX.1-2001, pax: length, keyword, value; sorted)."""
    content = b"".join(_pax_record(keyword, value) for keyword, value in sorted(extended.items()))
    header = _ustar((b"", b"PaxHeaders/" + _short(path)[-80:]), _PAX, size=len(content), mode=0o644)
    return header + content + bytes(-len(content) % BLOCK)


def _pax_record(keyword: str, value: bytes) -> bytes:
    rest = b" " + keyword.encode() + b"=" + value + b"\n"
    length = len(rest)
    while length != len(b"%d" % length) + len(rest):
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _short(path: str) -> bytes:
    """Return something like the path that any header holds, for readers that know no pax."""
    return path.rstrip("/").encode("ascii", "replace").replace(b"?", b"_")[-100:]


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Split a path into ustar's prefix (155 bytes) and name (100 bytes), or return None."""
    if len(name) <= 100:  # noqa: PLR2004
        return b"", name
    cut = name.find(b"/", max(0, len(name) - 101), 156)
    if cut <= 0 or cut == len(name) - 1:
        return None
    return name[:cut], name[cut + 1 :]
