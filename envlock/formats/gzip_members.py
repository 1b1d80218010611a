"""Compression that gives the same bytes on every machine, for layers in registries (RFC 1952, RFC 1951).

What a zlib writes depends on which zlib it is: distributions and Python builds carry zlib, zlib-ng or Intel's, and each
changes with its version and some with the processor. So the bytes come from one pinned library, libdeflate (in the
``deflate`` wheel, at an exact version: "deterministic for a particular version", says its author, on all processors),
used on pieces of a fixed size. Each piece is a gzip member of its own, as eStargz has it: every engine since Docker 1.0
reads such files, pieces are compressed on all cores at once, and nothing large is ever in memory. zstd would be
smaller and faster, but Engine 20.10 cannot pull it.

Of another libdeflate than the pinned one (built from source, say) a known answer tells: see ``is_pinned``.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import IO, NamedTuple

import deflate

from envlock.errors import HashMismatch
from envlock.formats.oci import LAYER_GZIP
from envlock.model.lock import Descriptor

# What the bytes depend on; descriptors are remembered under this name. A change of anything here is a new name.
METHOD = "deflate-0.9.0-level-6-1MiB"
_LEVEL = 6
_PIECE = 1 << 20  # bytes of tar in one member; 4 MiB would be 0.2 % smaller
# No time, no name, "unknown" for the system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_KNOWN_ANSWER = "fc7bad73bcfd7553252ffa2501b97cef2707caac7975761a02068453f052cb94"


class Compressed(NamedTuple):
    """What came out of a stream."""

    blob: Descriptor  # of the compressed bytes
    diff_id: str  # "sha256:<hex>" of what went in
    size: int  # bytes that went in


def compress(source: IO[bytes], write: Callable[[bytes], object]) -> Compressed:
    """Compress a stream to its end on all cores, a few pieces of 1 MiB in memory."""
    raw, packed = hashlib.sha256(), hashlib.sha256()
    size = packed_size = 0
    for piece, member in _members(source):
        raw.update(piece)
        packed.update(member)
        size += len(piece)
        packed_size += len(member)
        write(member)
    blob = Descriptor(media_type=LAYER_GZIP, digest=f"sha256:{packed.hexdigest()}", size=packed_size)
    return Compressed(blob, f"sha256:{raw.hexdigest()}", size)


def decompress(blocks: Iterable[bytes], *, limit: int) -> Iterator[bytes]:
    """Yield what a gzip file (RFC 1952, any number of members) holds, at most 1 MiB at a time.

    Raises ``HashMismatch`` where it is no gzip file, is damaged, or holds more than ``limit`` bytes.
    """
    left = limit
    try:
        for piece in _inflated(blocks):
            left -= len(piece)
            if left < 0:
                raise HashMismatch(f"it holds more than the {limit} bytes that it says")
            yield piece
    except zlib.error as error:
        raise HashMismatch(f"it is not compressed as it should be: {error}") from error


def _inflated(blocks: Iterable[bytes]) -> Iterator[bytes]:
    member = None
    for block in blocks:
        data = block
        while data:
            member = member or zlib.decompressobj(wbits=31)
            if piece := member.decompress(data, _PIECE):
                yield piece
            data = member.unused_data if member.eof else member.unconsumed_tail
            member = None if member.eof else member
    while member is not None and not member.eof:
        piece = member.decompress(b"", _PIECE)
        if not piece and not member.eof:
            raise HashMismatch("it ends in the middle")
        yield piece


@cache
def is_pinned() -> bool:
    """Return whether the library at hand gives the bytes that it gives everywhere else.

    Where it does not, images are the same by their image ID, and have another manifest digest in a registry.
    """
    return hashlib.sha256(_member(_sample())).hexdigest() == _KNOWN_ANSWER


def _members(source: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[bytes, Future[bytes]]] = deque()
        empty = True
        while piece := _read(source):
            empty = False
            waiting.append((piece, pool.submit(_member, piece)))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        if empty:
            yield b"", _member(b"")
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _read(source: IO[bytes]) -> bytes:
    """Read a whole piece: where a stream happens to give less at a time must not show in the result."""
    piece = source.read(_PIECE)
    if not piece or len(piece) == _PIECE:
        return piece
    parts = [piece]
    left = _PIECE - len(piece)
    while left and (more := source.read(left)):
        parts.append(more)
        left -= len(more)
    return b"".join(parts)


def _member(piece: bytes) -> bytes:
    body = deflate.deflate_compress(piece, _LEVEL)
    return b"".join((_HEADER, body, struct.pack("<LL", zlib.crc32(piece), len(piece))))


def _sample() -> bytes:
    """Return bytes in which matches of all lengths and distances are found, and some that hold nothing to find."""
    noise = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(4096))
    text = b"".join(b"line %d of %d, %d\n" % (number, number * number, number % 97) for number in range(8192))
    return noise + text + noise[1000:50000] + bytes(100_000) + text[::-1] + noise[::7] * 3
