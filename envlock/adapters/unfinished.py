"""Images that an engine was being given when a build ended. The engine goes on; a later build takes away what came."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from envlock.formats.oci import hex_of
from envlock.layers.claims import locked, unheld

_PATIENCE = 3600  # seconds after which nothing comes of it any more


class FileUnfinished:
    """One small file for each image of one engine that is on its way, held (flock(2)) by the process that sends it.

    It is a help to keep disks tidy: where it cannot be written, builds go on without.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def sending(self, ids: Sequence[str]) -> Iterator[Callable[[], None]]:
        """Hold an image, by all that the engine may call it; what the context gives remembers it until that ends well.

        Waits where another process takes away what an earlier build left of it.
        """
        path = self._folder / f"{hex_of(ids[0])}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = locked(path)
        except OSError:
            yield lambda: None
            return

        def remember() -> None:
            with suppress(OSError):
                file.truncate(0)
                os.write(file.fileno(), json.dumps(list(ids)).encode())

        with file:
            yield remember
            with suppress(OSError):
                path.unlink()

    def left(self) -> Iterator[Left]:
        """Yield what nobody sends any more, held until the next one is asked for."""
        for path, file in unheld(self._folder, "*.json"):
            age = time.time() - path.stat().st_mtime
            yield Left(ids=_ids(file.read()), old=age > _PATIENCE, path=path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """An image that may or may not have come."""

    ids: tuple[str, ...]
    old: bool  # if it did not come by now, it never will
    path: Path

    def forget(self) -> None:
        """Remember it no longer."""
        with suppress(OSError):
            self.path.unlink()


def _ids(content: bytes) -> tuple[str, ...]:
    """Return what was written; nothing where it was cut."""
    with suppress(ValueError):
        found = json.loads(content)
        if isinstance(found, list):
            return tuple(value for value in found if isinstance(value, str) and value.startswith("sha256:"))
    return ()
