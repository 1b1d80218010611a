"""Progress on stderr: bars where a person is watching, nothing but messages where not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from envlock.ports import Task


class TerminalProgress:
    """Implements ``ports.Progress`` with rich; tasks may nest and may run in several threads."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._bars: Bars | None = None
        self._running = 0

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: str = "") -> Iterator[Task]:
        """Show one piece of long work while the context lasts."""
        if not self._console.is_terminal:
            yield _Silent()
            return
        bars = self._enter()
        number = bars.add_task(title, total=total, unit=unit, note="")
        try:
            yield _Bar(bars, number)
        finally:
            bars.remove_task(number)
            self._leave()

    def message(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def _enter(self) -> Bars:
        with self._lock:
            if self._bars is None:
                self._bars = Bars(
                    SpinnerColumn(),
                    TextColumn("{task.description}"),
                    BarColumn(bar_width=24),
                    _Amount(),
                    TimeElapsedColumn(),
                    _Note(),
                    console=self._console,
                    transient=True,
                )
                self._bars.start()
            self._running += 1
            return self._bars

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._bars is not None:
                self._bars.stop()
                self._bars = None


class _Bar:
    def __init__(self, bars: Bars, number: int) -> None:
        self._bars = bars
        self._number = number

    def advance(self, amount: int = 1) -> None:
        self._bars.advance(self._number, amount)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        self._bars.update(self._number, note=text)  # type: ignore[arg-type]


class _Silent:
    def advance(self, amount: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Amount(ProgressColumn):
    """Bytes with their rate, or a count; nothing for work whose size is not known."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._rate, self._count = DownloadColumn(), TransferSpeedColumn(), MofNCompleteColumn()

    def render(self, task: object) -> Text:
        unit = task.fields["unit"]  # type: ignore[attr-defined]
        if task.total is None:  # type: ignore[attr-defined]
            return Text("")
        if unit == "B":
            return Text.assemble(self._bytes.render(task), " ", self._rate.render(task))  # type: ignore[arg-type]
        return Text.assemble(self._count.render(task), f" {unit}")  # type: ignore[arg-type]


class _Note(ProgressColumn):
    def render(self, task: object) -> Text:
        return Text(task.fields["note"], style="dim", overflow="ellipsis", no_wrap=True)  # type: ignore[attr-defined]
