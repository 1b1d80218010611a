"""Interpreters of this machine that compile for a base."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from envlock.adapters.compilers import interpreter_version
from envlock.errors import StorageError
from envlock.layers.claims import write_at_once
from envlock.layers.store import storage
from envlock.layers.target import Target

INTERPRETERS = "interpreters.json"  # in the folder of what was found out about bases


class LocalInterpreters:
    """Those on the PATH. Asking one takes a moment, so what it said is remembered in a file.

    ``scripts``: ask those that are scripts (pyenv's), too. Each may start another interpreter each time, so they are
    asked each time, which takes longer than starting a container.
    """

    def __init__(self, file: Path, *, scripts: bool) -> None:
        self._file = file
        self._scripts = scripts
        self._lock = threading.Lock()
        self._found: dict[str, str | None] = {}

    def find(self, target: Target) -> str | None:
        """Return an interpreter of exactly the target's version, or None."""
        with self._lock:
            if target.python not in self._found:
                self._found[target.python] = self._look(target)
            return self._found[target.python]

    def _look(self, target: Target) -> str | None:
        known = self._read()
        for name in (f"python{target.minor}", "python3"):
            path = shutil.which(name)
            place = _identity(Path(path)) if path else None
            if path is None or (place is None and not self._scripts):
                continue
            # What would do is asked again: the library that it comes from may be another one by now.
            if known.get(place or "", target.python) != target.python:
                continue
            version = interpreter_version(path)
            if version == target.python:
                return str(Path(path).absolute())
            if version and place:
                known[place] = version
                self._write(known)
        return None

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, known: dict[str, str]) -> None:
        with suppress(StorageError), storage(self._file):  # it is only slower without
            write_at_once(self._file, json.dumps(known, indent=1, sort_keys=True).encode())


def _identity(path: Path) -> str | None:
    """Return what another program in its place would change; None for a script."""
    try:
        path = path.resolve(strict=True)
        status = path.stat()
        with path.open("rb") as file:
            if file.read(2) == b"#!":
                return None
    except (OSError, RuntimeError):
        return None
    return f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
