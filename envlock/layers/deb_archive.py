"""The outside of a .deb: an ar archive of two packed tars, read as streams and with bounds (deb(5)).

Nothing is unpacked to disk, and nothing is believed: sizes, names and order are checked before they are used.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

import zstandard

_MAGIC = b"!<arch>\n"
_HEADER = 60
_LARGEST_DATE = 2**33 - 1  # seconds; far beyond any package

# A package that unpacks to more than this many times its size has something else in mind. Real ones reach 30.
_LARGEST_RATIO = 200
_ALWAYS_ALLOWED = 256 << 20  # bytes

UNPACKING_ERRORS = (lzma.LZMAError, zlib.error, EOFError, OSError, zstandard.ZstdError)


class DebFormatError(ValueError):
    """A file is no .deb, or one that cannot be accepted; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file in the ar archive."""

    name: str
    date: int  # seconds
    offset: int
    size: int  # bytes


def members(file: IO[bytes]) -> tuple[Member, ...]:
    """Return what is in the archive: exactly ``debian-binary``, ``control.tar*`` and ``data.tar*``, in this order.

    Raises ``DebFormatError`` for anything else; dpkg passes over members whose name starts with "_", we do not.
    """
    if file.read(len(_MAGIC)) != _MAGIC:
        raise DebFormatError("it is no ar archive")
    end = file.seek(0, io.SEEK_END)
    found: list[Member] = []
    place = len(_MAGIC)
    while place < end:
        if len(found) == len(_EXPECTED):
            raise DebFormatError("something comes after its files")
        file.seek(place)
        member = _member(file.read(_HEADER), place + _HEADER)
        place = member.offset + member.size + member.size % 2
        if not member.name.startswith(_EXPECTED[len(found)]) or member.offset + member.size > end:
            raise DebFormatError(
                f"{member.name[:40]!r} is not what comes {_ORDER[len(found)]} in a .deb, or is cut off"
            )
        found.append(member)
    if len(found) != len(_EXPECTED):
        raise DebFormatError(f"it has no {_EXPECTED[len(found)]}")
    return tuple(found)


_EXPECTED = ("debian-binary", "control.tar", "data.tar")
_ORDER = ("first", "second", "third")


def _member(header: bytes, offset: int) -> Member:
    fields = header[:16], header[16:28], header[48:58]
    name, date, size = (field.decode("ascii", "replace").strip() for field in fields)
    if header[58:] != b"`\n" or not (size.isascii() and size.isdecimal() and date.isascii() and date.isdecimal()):
        raise DebFormatError("it has a broken header")
    return Member(name=name.removesuffix("/"), date=min(int(date), _LARGEST_DATE), offset=offset, size=int(size))


@contextmanager
def unpacked(file: IO[bytes], member: Member, *, largest: int | None = None) -> Iterator[IO[bytes]]:
    """Give a member's tar, unpacked while it is read.

    ``largest`` bounds it (bytes; default: in proportion to the packed size). What is read may raise ``DebFormatError``
    or one of ``UNPACKING_ERRORS``.
    """
    window = _Window(file, member)
    limit = largest or max(_ALWAYS_ALLOWED, member.size * _LARGEST_RATIO)
    with _unpacker(member.name.rpartition(".tar")[2], window) as source:
        yield cast("IO[bytes]", io.BufferedReader(_Bounded(source, limit), 1 << 20))


def _unpacker(kind: str, source: io.RawIOBase) -> IO[bytes]:
    packed = cast("IO[bytes]", io.BufferedReader(source, 1 << 18))
    match kind:
        case "":
            return packed
        case ".gz":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=packed))
        case ".xz" | ".lzma":
            return cast("IO[bytes]", lzma.LZMAFile(packed))
        case ".bz2":
            return cast("IO[bytes]", bz2.BZ2File(packed))
        case ".zst":
            unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
            return cast("IO[bytes]", unpacker.stream_reader(packed, read_across_frames=True))
        case _:
            raise DebFormatError(f"{kind[:20]!r} is no way of packing that dpkg knows")


class _Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: IO[bytes], member: Member) -> None:
        self._file = file
        self._place, self._end = member.offset, member.offset + member.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._place)
        data = self._file.read(min(len(buffer), self._end - self._place))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


class _Bounded(io.RawIOBase):
    """A stream that may only have so many bytes."""

    def __init__(self, source: IO[bytes], limit: int) -> None:
        self._source = source
        self._limit = limit
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._source.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise DebFormatError(f"it unpacks to more than {self._limit:,} bytes, which no package of its size does")
        buffer[: len(data)] = data
        return len(data)
