"""MLflow, and the records that wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # most commands talk to no run store
    from envlock.model.environment import Environment
    from envlock.model.record import Destination, Record


class RunStore(Protocol):
    """MLflow."""

    def deliver(self, record: Record, destination: Destination, *, key: str) -> str:
        """Put a record into a run and return the run's ID; with no run ID, create one, once per ``key``.

        Doing it again changes nothing. A param that the run already has with another value stays as it is, and the
        record's value becomes the tag ``envlock.<param>``. Raises ``TrackingError`` where the store cannot be reached
        or refuses, ``InputError`` for an unknown or deleted run or experiment.
        """

    def environment(self, run_id: str, *, title: str) -> Environment:
        """Read back the environment of a run, from its artifacts or, where there are none, from its params.

        Raises as ``deliver`` does.
        """

    def artifact(self, run_id: str, path: str) -> bytes | None:
        """Return one artifact of a run, or None where it has no such file. Raises as ``deliver`` does."""


class Outbox(Protocol):
    """Records that wait for MLflow to come back."""

    def put(self, record: Record, destination: Destination) -> str:
        """Keep a record safely on disk and return its key, which no other record ever had; raises ``StorageError``."""

    def pending(self) -> Sequence[tuple[str, Record, Destination]]:
        """Return what waits, oldest first."""

    def claim(self, key: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold a record while it is delivered, against other processes (until this one ends, whatever way).

        Gives False where the record is gone or, without ``wait``, where another process holds it.
        """

    def done(self, key: str) -> None:
        """Forget a delivered record; no error where it is gone."""

    def place(self, key: str) -> str:
        """Say where a record waits, for people."""
