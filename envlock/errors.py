"""Every error that a user can meet.

::

    EnvlockError                 exit code
    ├── Difference               1   a difference or finding, not a fault
    ├── InputError               2   the input is wrong
    │   ├── UsageError               the command line
    │   ├── SpecError                envlock.yaml, every fault at once
    │   ├── LockError                envlock.lock: unreadable, edited, newer
    │   ├── StaleLock                the lock no longer fits the spec
    │   ├── UnknownImage             no such tag or digest
    │   └── Unresolvable             the requirements cannot all be met
    └── WorldError               3   the world failed
        ├── EngineError              Docker engine
        ├── BuildFailed              a step of the build, with its output
        ├── RegistryError            image registry
        ├── IndexFailed              package index
        ├── AptError                 apt repository
        ├── HashMismatch             a file is not what the lock says
        │   └── DamagedLayer         a kept layer is not what it was when it was made
        ├── StorageError             disk full, permissions
        └── TrackingError            MLflow

Only the command line's boundary turns these into messages and exit codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class EnvlockError(Exception):
    """What is wrong (``message``, no full stop), where (in the message), and what to do next (``hint``)."""

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class Difference(EnvlockError):
    """A difference or a finding: the command worked, and this is its answer."""

    exit_code = 1


class InputError(EnvlockError):
    """What the user gave is wrong."""

    exit_code = 2


class UsageError(InputError):
    """The command line asks for something that cannot be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One fault in a file: where it is, what it is and what to do about it."""

    file: str
    line: int = 0  # 1-based; 0 where the fault belongs to the whole file
    column: int = 0  # 1-based
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class SpecError(InputError):
    """The spec, or a requirements file that it names, has faults; all of them are listed."""

    def __init__(self, faults: Sequence[Fault], *, hint: str = "") -> None:
        count = f"{len(faults)} faults" if len(faults) != 1 else "1 fault"
        super().__init__(f"{count} in the spec", hint=hint, details=[str(fault) for fault in faults])
        self.faults = tuple(faults)


class LockError(InputError):
    """The lock file cannot be used: truncated, edited by hand, or of an unknown format version."""


class StaleLock(InputError):
    """The lock is sound but answers another spec; ``details`` says what changed."""


class UnknownImage(InputError):
    """No registry and no engine knows an image by this name, tag or digest."""


class Unresolvable(InputError):
    """The resolver, apt or the wheel's tags say that what was asked for cannot be had together."""


class WorldError(EnvlockError):
    """Something outside envlock failed."""


class EngineError(WorldError):
    """The Docker engine is missing, refuses us, or failed."""


class BuildFailed(WorldError):
    """A step of the build failed; ``details`` holds the step's own output."""


class RegistryError(WorldError):
    """An image registry is unreachable, refuses us, or answered nonsense."""


class IndexFailed(WorldError):
    """A package index is unreachable, refuses us, or answered nonsense."""


class AptError(WorldError):
    """An apt repository is unreachable, unsigned, or answered nonsense."""


class HashMismatch(WorldError):
    """A file's bytes are not the ones that the lock names."""


class DamagedLayer(HashMismatch):
    """A layer in the local store changed on disk; ``key`` is its name there, so that it can be made again."""

    def __init__(self, message: str, *, key: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key


class StorageError(WorldError):
    """This machine's disk is full or cannot be written."""


class TrackingError(WorldError):
    """MLflow is unreachable or refuses the record."""
