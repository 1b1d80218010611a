"""Whether transfers move at all: a line that drips is worse than none, because nobody gives up on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from envlock.errors import RegistryError

WINDOW = 30.0  # seconds
LEAST = 4 << 20  # bytes in a window, of all transfers together; a modem's speed


class Pace:
    """What several threads transfer at the same time. ``clock`` is in seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0
        self._bytes = 0

    @contextmanager
    def transfer(self) -> Iterator[Callable[[int], None]]:
        """Give a function to tell of bytes that came; it raises ``RegistryError`` where it is too slow."""
        with self._lock:
            if not self._running:
                self._begin()
            self._running += 1
        try:
            yield self._passed
        finally:
            with self._lock:
                self._running -= 1

    def _begin(self) -> None:
        self._since, self._bytes = self._clock(), 0

    def _passed(self, size: int) -> None:
        with self._lock:
            self._bytes += size
            took = self._clock() - self._since
            if took < WINDOW:
                return
            speed = self._bytes / took
            self._begin()
        if speed < LEAST / WINDOW:
            raise RegistryError(f"the registry is too slow: {speed / 1000:.0f} kB/s")
