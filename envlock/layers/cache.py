"""What the layer store holds, and how it is kept small."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envlock.layers.store import LayerStore, Shelf, storage

# What was wanted this recently may be in use by a build that runs now.
IN_USE = 600  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One thing in the store."""

    kind: Literal["layer", "part", "note"]
    key: str
    title: str
    size: int  # bytes
    used: float  # when it was wanted last, seconds since the epoch


def kept(store: LayerStore) -> list[Kept]:
    """Return everything in the store, what was wanted last first. Raises ``StorageError``."""
    return sorted(_all(store), key=lambda item: (-item.used, item.kind, item.key))


def prune(store: LayerStore, *, most: int | None = None, unused_for: float | None = None) -> list[Kept]:
    """Remove what was not wanted for ``unused_for`` seconds, then the longest unwanted until ``most`` bytes are left.

    What was wanted in the last ten minutes stays: a build may need it. What was never finished goes.
    Returns what was removed; raises ``StorageError``.
    """
    now = time.time()
    left = kept(store)
    total = sum(item.size for item in left)
    removed = []
    for item in reversed(left):
        old = unused_for is not None and now - item.used > unused_for
        over = most is not None and total > most
        if (old or over) and now - item.used > IN_USE:
            _remove(store, item)
            removed.append(item)
            total -= item.size
    store.sweep()
    for shelf in (store.layers, store.parts):
        _remove_orphans(shelf, now)
    return removed


def _all(store: LayerStore) -> Iterator[Kept]:
    with storage(Path()):
        for layer, used in store.layers.kept():
            yield Kept(kind="layer", key=layer.key, title=layer.title, size=layer.size, used=used)
        for part, used in store.parts.kept():
            yield Kept(kind="part", key=part.key, title=part.title, size=part.size, used=used)
        for path, size, used in store.notes():
            yield Kept(kind="note", key=path.stem, title="", size=size, used=used)


def _remove(store: LayerStore, item: Kept) -> None:
    with storage(Path()):
        if item.kind == "layer":
            store.layers.drop(item.key)
        elif item.kind == "part":
            store.parts.drop(item.key)
        else:
            store.forget(item.key)


def _remove_orphans(shelf: Shelf, now: float) -> None:
    """Remove tars without a description: whoever made them ended between the two."""
    with storage(Path()):
        for path in shelf.undescribed():
            with suppress(FileNotFoundError):
                if now - path.stat().st_mtime > IN_USE:
                    path.unlink()
