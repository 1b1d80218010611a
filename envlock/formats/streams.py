"""Blocks of bytes as a file that is read once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import Any


class IteratorStream(io.BufferedIOBase):
    """What an iterator yields, as a stream; closing it closes the iterator."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return exactly ``size`` bytes, fewer at the end; all where it is negative."""
        parts: list[memoryview] = []
        left = -1 if size is None else size
        while left and self._more():
            part = self._rest if left < 0 else self._rest[:left]
            self._rest = self._rest[len(part) :]
            left -= len(part) if left > 0 else 0
            parts.append(part)
        return b"".join(parts)

    def read1(self, size: int = -1) -> bytes:
        """Return what is at hand."""
        if not self._more():
            return b""
        part = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(part) :]
        return bytes(part)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as it goes."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """End the iterator."""
        if not self.closed:
            with suppress(AttributeError):
                self._blocks.close()  # type: ignore[attr-defined]
        super().close()

    def _more(self) -> bool:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return False
            self._rest = memoryview(block)
        return True
