"""What the layer store holds, so that it can be kept small (``cache.Keeper``)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from envlock.layers.store import LayerStore, Shelf, storage
from envlock.model.kept import Kept

# A tar is described the moment after it got its place; without a description after this long, its maker is gone.
_ABANDONED = 600  # seconds


class LayerCache:
    """Layers, the parts that they are made of, and notes."""

    def __init__(self, store: LayerStore) -> None:
        self._store = store

    def kept(self) -> Iterator[Kept]:
        """Yield everything in the store. Raises ``StorageError``."""
        with storage(Path()):
            for layer, used in self._store.layers.kept():
                yield Kept(kind="layer", key=layer.key, title=layer.title, size=layer.size, used=used)
            for part, used in self._store.parts.kept():
                yield Kept(kind="part", key=part.key, title=part.title, size=part.size, used=used)
            for path, size, used in self._store.notes():
                yield Kept(kind="note", key=path.stem, size=size, used=used)

    def remove(self, item: Kept, *, since: float) -> bool:
        """Remove what was not wanted after a time (seconds since the epoch), and say whether it is gone."""
        if item.kind == "layer":
            return self._store.layers.drop_unused(item.key, since=since)
        if item.kind == "part":
            return self._store.parts.drop_unused(item.key, since=since)
        return self._store.forget_unused(item.key, since=since)

    def tidy(self) -> None:
        """Remove what was never finished: tars under construction, and tars that nobody described."""
        self._store.sweep()
        for shelf in (self._store.layers, self._store.parts):
            _remove_orphans(shelf)


def _remove_orphans(shelf: Shelf) -> None:
    with storage(Path()):
        for path in shelf.undescribed():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
