"""Interpreters of this machine that compile for a base."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence

from envlock.adapters.compilers import ProcessCompiler, local_interpreter
from envlock.layers.target import Target


class LocalInterpreters:
    """Looks for each version once: asking every Python on the PATH takes a moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, str | None] = {}

    def find(self, target: Target) -> str | None:
        """Return an interpreter of exactly the target's version, or None."""
        with self._lock:
            if target.python not in self._found:
                self._found[target.python] = local_interpreter(target)
            return self._found[target.python]


def on_all_cores(
    argv: Sequence[str], target: Target, *, environment: Mapping[str, str] | None = None
) -> ProcessCompiler:
    """Return a compiler with a process for each core that this process may use."""
    return ProcessCompiler(argv, target, workers=len(os.sched_getaffinity(0)), environment=environment)
