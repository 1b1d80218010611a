"""Files and folders under construction that one process at a time has, and that nobody has to clean up after."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_PAUSE = 0.05  # seconds between looks at a file that another process writes


@contextmanager
def claimed(path: Path, *, waiting: Callable[[], object] = lambda: None) -> Iterator[BinaryIO]:
    """Hold a file for writing, empty, once no other process (or thread) holds it; remove it unless it was renamed.

    The lock is the kernel's (flock(2)): it ends with the process, whatever way that ends. ``waiting`` is called again
    and again while somebody else holds the file; what it raises ends the wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = locked(path, waiting)
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


def write_at_once(path: Path, content: bytes) -> None:
    """Write a file whole: whoever reads it finds all of it, or what was there before."""
    with claimed(path.with_name(f".{path.name}.making")) as file:
        file.write(content)
        file.flush()
        path.with_name(f".{path.name}.making").rename(path)


def sweep(folder: Path, pattern: str = "*") -> None:
    """Remove what processes left that ended while they wrote."""
    for path, _ in unheld(folder, pattern):
        with suppress(OSError):
            path.unlink()


def unheld(folder: Path, pattern: str = "*") -> Iterator[tuple[Path, BinaryIO]]:
    """Yield the files that no process holds, each held until the next one is asked for."""
    paths: list[Path] = []
    with suppress(OSError):  # the folder may go away meanwhile
        paths = sorted(folder.glob(pattern))
    for path in paths:
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                yield path, file


@contextmanager
def scratch(parent: Path, name: str) -> Iterator[Path]:
    """Give an empty folder that is removed afterwards, together with those whose process was killed."""
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with gate(parent, alone=True):  # a new folder is not held yet
            for left in parent.glob(f"{name}-*"):
                with suppress(OSError), _held(left):
                    remove_tree(left)
            folder = Path(tempfile.mkdtemp(dir=parent, prefix=f"{name}-"))
            with suppress(OSError):
                stack.enter_context(_held(folder))
            stack.callback(remove_tree, folder)
        inside = folder / "inside"  # whoever gets it may want to hold it for something else
        inside.mkdir()
        yield inside


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it; images have folders that not even their owner may write."""
    for inside, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(inside).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def touch(path: Path) -> None:
    """Note that a file is wanted; raises ``FileNotFoundError``, and ``OSError`` for what else a file system refuses.

    Somebody else's file, or one on a disk that is only read, is their business to prune.
    """
    try:
        os.utime(path)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EACCES, errno.EROFS}:
            raise
        path.stat()


@contextmanager
def gate(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold a folder against whoever wants it ``alone``; those who do not, hold it together.

    Marking something as used goes together, looking whether it was used and removing it goes alone: so what is marked
    is still there. Where there is no such folder, or its file system knows no such locks, nothing is held.
    """
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder; raises ``OSError`` where somebody else does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def locked(path: Path, waiting: Callable[[], object] = lambda: None) -> BinaryIO:
    """Return a file, made where it is not there, that nobody else holds until it is closed; raises ``OSError``."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b")
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                waiting()
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
