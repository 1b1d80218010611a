"""Telling about long work."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Task(Protocol):
    """One running piece of long work."""

    def advance(self, amount: int = 1) -> None:
        """Say that ``amount`` more units (bytes, packages, steps) are done. Safe to call from any thread."""

    def note(self, text: str) -> None:
        """Show what is being worked on right now (a package, a file); replaces the previous note."""


class Progress(Protocol):
    """Tells the user about long work, on stderr; quiet when that is not a terminal."""

    def task(self, title: str, *, total: int | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """Start a piece of work of ``total`` units; ``unit`` is "B" for bytes, else a plural noun."""

    def message(self, text: str) -> None:
        """Tell the user something that stays on the screen, terminal or not."""
