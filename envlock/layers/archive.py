"""A wheel as an archive (PEP 427, APPNOTE 6.3): its members, checked, and their content as a stream.

``zipfile`` reads the list of members; content is read here, because one read per small file is several times faster
than ``zipfile``'s file objects, and because every thread needs a position of its own.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from envlock.errors import InputError, StorageError

_BLOCK = 1 << 20  # bytes read or inflated at a time
_LOCAL = struct.Struct("<4s5H3I2H")  # APPNOTE 4.3.7, local file header
_LOCAL_EXTRA = 128  # bytes of local extra fields that are read along, to save a system call
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED

# A wheel that unpacks to more than this many times its size, and to more than this many bytes, is a trap.
_RATIO = 100
_ALWAYS_FINE = 256 << 20
_MOST_MEMBERS = 500_000


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a wheel."""

    name: str  # as in the archive: "/"-separated, no ".", ".." or empty part
    size: int  # bytes, unpacked
    executable: bool
    offset: int  # of the local header
    packed: int  # bytes
    method: int
    crc: int
    raw_name: bytes


class WheelArchive:
    """An open wheel. Raises ``InputError`` that names the wheel and the member for whatever should not be in one."""

    def __init__(self, path: Path, *, title: str) -> None:
        self.title = title  # for messages: the wheel's file name
        try:
            self._file = path.open("rb")
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        try:
            self.members = self._read_members()
        except BaseException:
            self._file.close()
            raise
        self.by_name = {member.name: member for member in self.members}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, member: Member) -> bytes:
        """Return a member's content."""
        return b"".join(self.blocks(member))

    def blocks(self, member: Member) -> Iterator[bytes]:
        """Yield a member's content, in blocks of at most 1 MiB; checks its size and CRC."""
        start, head = self._begin(member)
        inflated = self._inflated(member, start, head) if member.method == _DEFLATED else self._raw(member, start, head)
        size, crc = 0, 0
        for block in inflated:
            size += len(block)
            if size > member.size:
                break
            crc = zlib.crc32(block, crc)
            yield block
        if size != member.size:
            raise self.refused(f"it is not {member.size:,} bytes long, as the wheel says", member.name)
        if crc != member.crc:
            raise self.refused("its checksum is wrong", member.name)

    def refused(self, why: str, name: str = "") -> InputError:
        """Return the error for something that is wrong with this wheel."""
        where = f"{self.title}: {name!r}" if name else self.title
        return InputError(
            f"{where}: {why}", hint="this wheel is damaged or malicious; take another version of the package"
        )

    def _read_members(self) -> tuple[Member, ...]:
        try:
            infos = zipfile.ZipFile(self._file).infolist()
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError) as error:
            raise self.refused(f"it is no readable zip archive ({error})") from error
        if len(infos) > _MOST_MEMBERS:
            raise self.refused(f"it has {len(infos):,} members")
        members = tuple(self._member(info) for info in infos if not self._is_folder(info))
        seen: set[str] = set()
        for member in members:
            if member.name in seen:
                raise self.refused("it is there twice, and one hides the other", member.name)
            seen.add(member.name)
        unpacked = sum(member.size for member in members)
        if unpacked > max(_ALWAYS_FINE, _RATIO * self._size):
            raise self.refused(f"it unpacks to {unpacked:,} bytes, more than {_RATIO} times its own size")
        return members

    def _is_folder(self, info: zipfile.ZipInfo) -> bool:
        return info.orig_filename.endswith("/") and not info.file_size and self._checked(info.orig_filename[:-1]) != ""

    def _checked(self, name: str) -> str:
        parts = name.split("/")
        if name.startswith("/"):
            raise self.refused("its path is absolute", name)
        if ".." in parts:
            raise self.refused("its path leads out of the wheel", name)
        if "" in parts or "." in parts or "\\" in name or not name.isprintable():
            raise self.refused("its path is not a plain one", name)
        return name

    def _member(self, info: zipfile.ZipInfo) -> Member:
        name = self._checked(info.orig_filename)
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            raise self.refused("it is a symbolic link", name)
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            raise self.refused("it is no regular file", name)
        if info.flag_bits & 0x1:
            raise self.refused("it is encrypted", name)
        if info.header_offset + info.compress_size > self._size:
            raise self.refused("it is not where the list of members says", name)
        if info.compress_type not in {_STORED, _DEFLATED}:
            raise self.refused(f"it is compressed in a way that wheels are not ({info.compress_type})", name)
        return Member(
            name=name,
            size=info.file_size,
            executable=stat.S_ISREG(mode) and bool(mode & 0o111),
            offset=info.header_offset,
            packed=info.compress_size,
            method=info.compress_type,
            crc=info.CRC,
            raw_name=name.encode("utf-8" if info.flag_bits & 0x800 else "cp437"),
        )

    def _begin(self, member: Member) -> tuple[int, bytes]:
        """Return where a member's data starts, and the first of it, read along with its local header."""
        wanted = _LOCAL.size + len(member.raw_name) + _LOCAL_EXTRA + min(member.packed, _BLOCK)
        data = os.pread(self._file.fileno(), wanted, member.offset)
        if len(data) < _LOCAL.size or data[:4] != b"PK\3\4":
            raise self.refused("it is not where the list of members says", member.name)
        fields = _LOCAL.unpack_from(data)
        name_length, extra_length = fields[-2:]
        if data[_LOCAL.size : _LOCAL.size + name_length] != member.raw_name:
            raise self.refused("it has another name in the list of members than in place", member.name)
        skipped = _LOCAL.size + name_length + extra_length
        return member.offset + skipped, data[skipped : skipped + member.packed]

    def _raw(self, member: Member, start: int, head: bytes) -> Iterator[bytes]:
        """Yield the bytes of a member as they are in the file."""
        position = 0
        while position < member.packed:
            block = head or os.pread(self._file.fileno(), min(_BLOCK, member.packed - position), start + position)
            if not block:
                raise self.refused("the wheel ends in the middle of it", member.name)
            head = b""
            position += len(block)
            yield block

    def _inflated(self, member: Member, start: int, head: bytes) -> Iterator[bytes]:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for packed in self._raw(member, start, head):
                rest = packed
                while rest and not inflate.eof:
                    yield inflate.decompress(rest, _BLOCK)
                    rest = inflate.unconsumed_tail
            while not inflate.eof and (more := inflate.decompress(inflate.unconsumed_tail, _BLOCK)):
                yield more
        except zlib.error as error:
            raise self.refused(f"its compressed data is damaged ({error})", member.name) from error
