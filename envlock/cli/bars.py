"""Bars on a terminal, with rich."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.text import Text


class Bars:
    """Bars at the bottom of a terminal, from ``start`` to ``stop``; safe to use from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Amount(),
            TimeElapsedColumn(),
            _Note(),
            console=Console(file=stream),
            transient=True,
        )

    def start(self) -> None:
        """Begin to draw."""
        self._bars.start()

    def stop(self) -> None:
        """Leave nothing but the messages."""
        self._bars.stop()

    def add(self, title: str, *, total: int | None, unit: str) -> Bar:
        """Add a bar."""
        return Bar(self._bars, title, total=total, unit=unit)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(Text(text), soft_wrap=True)


class Bar:
    """Implements ``ports.Task``."""

    def __init__(self, bars: Progress, title: str, *, total: int | None, unit: str) -> None:
        self._bars = bars
        self._number = bars.add_task(title, total=total, unit=unit, note="")

    def advance(self, amount: int = 1) -> None:
        """Say that ``amount`` more units are done."""
        self._bars.advance(self._number, amount)

    def note(self, text: str) -> None:
        """Show what is being worked on right now."""
        self._bars.update(self._number, note=text)

    def remove(self) -> None:
        """Take it away."""
        self._bars.remove_task(self._number)


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
