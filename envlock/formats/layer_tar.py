"""Writing a layer's tar: POSIX ustar, with pax records only for what ustar cannot say (POSIX.1-2017, pax).

Our own, because the bytes are what an image is known by: a library that writes them otherwise in its next version would
change every digest.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 512
CAPABILITY = "SCHILY.xattr.security.capability"  # as GNU tar and container engines write it

# 1980-01-02T00:00:00Z, the time of what has none. Not 0: a zip archive (which is how frameworks ship code to workers)
# cannot hold times before 1980, wherever on earth its maker's clock is.
EPOCH = 315_619_200

_NAME_BYTES = 100
_LARGEST_ID = 0o7777777
_LARGEST_SIZE = 0o77777777777
END = bytes(2 * BLOCK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One entry of a layer."""

    path: str  # relative, without a "/" at its end; bytes that are no UTF-8 are surrogates (PEP 383)
    type: bytes  # as in the header: b"0" file, b"1" hard link, b"2" symbolic link, b"5" folder, b"6" pipe
    mode: int
    uid: int
    gid: int
    mtime: int  # seconds
    size: int = 0  # bytes that follow
    target: str = ""
    capability: bytes = b""


def header(entry: Member) -> bytes:
    """Return what stands before an entry's content."""
    path = _bytes(entry.path) + (b"/" if entry.type == b"5" else b"")
    target = _bytes(entry.target)
    records = b""
    for name, value, fits in (
        (CAPABILITY, entry.capability, not entry.capability),
        ("gid", b"%d" % entry.gid, entry.gid <= _LARGEST_ID),
        ("linkpath", target, _plain(target)),
        ("path", path, _plain(path)),
        ("size", b"%d" % entry.size, entry.size <= _LARGEST_SIZE),
        ("uid", b"%d" % entry.uid, entry.uid <= _LARGEST_ID),
    ):
        records += b"" if fits else _record(name, value)
    own = _block(
        path,
        entry.type,
        target=target,
        mode=entry.mode,
        uid=entry.uid if entry.uid <= _LARGEST_ID else 0,
        gid=entry.gid if entry.gid <= _LARGEST_ID else 0,
        size=entry.size if entry.size <= _LARGEST_SIZE else 0,
        mtime=entry.mtime,
    )
    if not records:
        return own
    return _block(b"././@PaxHeader", b"x", size=len(records)) + records + padding(len(records)) + own


def padding(size: int) -> bytes:
    """Return what fills the last block of a content."""
    return bytes(-size % BLOCK)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _plain(value: bytes) -> bool:
    return len(value) <= _NAME_BYTES and value.isascii()


def _record(name: str, value: bytes) -> bytes:
    """Return a pax record, whose length counts its own digits."""
    body = b" " + name.encode() + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def _block(
    path: bytes,
    kind: bytes,
    *,
    target: bytes = b"",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
) -> bytes:
    fields = (
        path[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0"),
        b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime),
        b" " * 8,  # the checksum counts as spaces
        kind,
        target[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0"),
        b"ustar\x0000",
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
