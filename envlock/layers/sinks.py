"""Tar writers for the entries of a wheel that are not simply all written."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import BinaryIO

from envlock.layers.scheme import parents
from envlock.layers.tar_writer import TarWriter

Index = list[tuple[str, int, int]]  # path, offset and length of each entry


class Without(TarWriter):
    """A whole tar, but for some files: their content is read (and so checked), and goes nowhere."""

    def __init__(self, file: BinaryIO, left_out: Collection[str]) -> None:
        super().__init__(file)
        self._left_out = left_out

    def file(self, path: str, content: Iterable[bytes], *, size: int, executable: bool = False) -> None:
        """Write a file unless it is to be left out."""
        if path in self._left_out:
            deque(content, maxlen=0)
        else:
            super().file(path, content, size=size, executable=executable)


class Indexed(TarWriter):
    """Files only, without folders and an end; ``index`` says where each one is."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.index: Index = []

    def folder(self, path: str) -> None:
        """Write nothing: whoever puts the entries into a tar knows which folders it has."""

    def file(self, path: str, content: Iterable[bytes], *, size: int, executable: bool = False) -> None:
        """Write a file."""
        start = self.offset
        super().file(path, content, size=size, executable=executable)
        self.index.append((path, start, self.offset - start))


def folders_of(index: Index, left_out: Collection[str]) -> list[str]:
    """Return the folders that entries need, in the order of their paths."""
    near = {path.rpartition("/")[0] for path, _, _ in index if path not in left_out}
    return sorted(near.union(*(parents(folder) for folder in near)))


def runs_of(index: Index, left_out: Collection[str]) -> list[tuple[int, int]]:
    """Return what to copy, as (offset, length), where some entries are left out."""
    runs: list[tuple[int, int]] = []
    for path, start, length in index:
        if path in left_out:
            continue
        if runs and sum(runs[-1]) == start:
            runs[-1] = (runs[-1][0], runs[-1][1] + length)
        else:
            runs.append((start, length))
    return runs
