"""A ``Progress`` that remembers what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class RememberedTask:
    """One piece of work."""

    title: str
    amount: int = 0
    notes: list[str] = field(default_factory=list)

    def advance(self, amount: int = 1) -> None:
        self.amount += amount

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Remembering:
    """All messages and tasks, in order."""

    messages: list[str] = field(default_factory=list)
    tasks: list[RememberedTask] = field(default_factory=list)

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: str = "") -> Iterator[RememberedTask]:
        self.tasks.append(RememberedTask(title))
        yield self.tasks[-1]

    def message(self, text: str) -> None:
        self.messages.append(text)
