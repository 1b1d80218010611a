"""Layers as registries keep them, uncompressed while they are read (OCI image spec: tar, tar+gzip, tar+zstd)."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from typing import IO, cast

import zstandard

from envlock.errors import WorldError

# What reading a layer may raise where its bytes are no such thing. gzip's own error is an OSError.
BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BLOCK = 256 << 10  # bytes


def plain(file: IO[bytes]) -> IO[bytes]:
    """Return a file's content as a stream; closing that leaves ``file`` open. What is packed otherwise stays so."""
    source = io.BufferedReader(cast("io.RawIOBase", _Detached(file)), _BLOCK)
    head = source.peek(len(_ZSTD))[: len(_ZSTD)]
    if head == _ZSTD:
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
        return cast("IO[bytes]", reader)
    if head.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=source))
    return source


def broken(title: str, error: Exception) -> WorldError:
    """Return the error for a layer that cannot be read although it has the right digest."""
    return WorldError(
        f"{title} cannot be read: {error}", hint="envlock reads layers that are tars, plain or packed with gzip or zstd"
    )


class _Detached(io.RawIOBase):
    """A file, to be read and not to be closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as it goes."""
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
