"""Files under construction that one process at a time may write, and that nobody has to clean up after."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PAUSE = 0.05  # seconds between looks at a file that another process writes


@contextmanager
def claimed(path: Path) -> Iterator[BinaryIO]:
    """Hold a file for writing, empty, once no other process (or thread) holds it; remove it unless it was renamed.

    The lock is the kernel's (flock(2)): it ends with the process, whatever way that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(path)
    try:
        with file:
            file.truncate(0)
            try:
                yield file
            finally:
                if _is_at(file, path):
                    path.unlink()
    finally:
        file.close()


def sweep(folder: Path) -> None:
    """Remove what processes left that ended while they wrote."""
    with suppress(FileNotFoundError):
        for path in list(folder.iterdir()):
            with suppress(OSError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(file, path):
                    path.unlink()


def _locked(path: Path) -> BinaryIO:
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b")
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(_PAUSE)
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Say whether a path still leads to an open file, which its last holder may have renamed or removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
