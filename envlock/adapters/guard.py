"""One at a time, among all processes of this machine."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from envlock.errors import StorageError


class FileGuard:
    """Locks by name (flock(2)): held for the length of a context, and released when the process ends, whatever way."""

    def __init__(self, folder: Path, *, waiting: Callable[[str], None]) -> None:
        self._folder = folder
        self._waiting = waiting  # told once, where somebody else holds the lock

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Hold the lock; wait for it as long as it takes. Raises ``StorageError``."""
        path = self._folder / f"{name}.lock"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            stream = path.open("ab")
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written: {error.strerror or error}",
                hint="free some space there, or put the state elsewhere with ENVLOCK_STATE_DIR",
            ) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._waiting("Another envlock is building this environment: waiting for it")
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield
