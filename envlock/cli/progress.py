"""Progress on stderr: bars where a person is watching, nothing but messages where not."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from envlock.ports import Task

if TYPE_CHECKING:
    from envlock.cli.bars import Bars


class TerminalProgress:
    """Implements ``ports.Progress``; tasks may nest and may run in several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._bars: Bars | None = None  # while a task is running on a terminal
        self._running = 0

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: str = "") -> Iterator[Task]:
        """Show one piece of long work while the context lasts."""
        if not self._stream.isatty():
            yield _Silent()
            return
        bar = self._enter().add(title, total=total, unit=unit)
        try:
            yield bar
        finally:
            bar.remove()
            self._leave()

    def message(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            if self._bars is not None:
                self._bars.message(text)
            else:
                print(text, file=self._stream, flush=True)

    def _enter(self) -> Bars:
        from envlock.cli.bars import Bars  # where nobody is watching, nothing of it is needed

        with self._lock:
            if self._bars is None:
                self._bars = Bars(self._stream)
                self._bars.start()
                # Where a thread is left in the middle of a task, the terminal gets its cursor back all the same.
                atexit.register(self._bars.stop)
            self._running += 1
            return self._bars

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._bars is not None:
                self._bars.stop()
                atexit.unregister(self._bars.stop)
                self._bars = None


class _Silent:
    def advance(self, amount: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass
