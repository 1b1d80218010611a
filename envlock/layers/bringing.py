"""Layers and notes on their way from a store's remote, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from envlock.layers.store import LayerStore
from envlock.model.layers import StoredLayer

_AT_A_TIME = 6  # enough to hide a registry's latency; two or three fill the line


class Bringing:
    """Brings what a store lacks; what is still on its way when the context ends is given up, and leaves nothing."""

    def __init__(self, store: LayerStore) -> None:
        self._store = store
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="bring")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def layers(self, keys: Iterable[str]) -> dict[str, Future[StoredLayer | None]]:
        """Start bringing those layers that the remote says it has; a result is None where one did not come after all.

        Reading a result raises ``StorageError``.
        """
        if self._store.remote is None:
            return {}
        offered = [found for found in self._pool.map(self._store.remote.find, keys) if found is not None]
        stopped = self._stopped.is_set
        return {one.layer.key: self._pool.submit(self._store.bring, one, stopped=stopped) for one in offered}

    def notes(self, keys: Iterable[str], well_formed: Callable[[Any], bool]) -> dict[str, Any]:
        """Return those notes that the store or the remote has, by key. Raises ``StorageError``."""
        names = list(keys)
        found = {key: self._store.recall(key, well_formed) for key in names}
        lacking = [key for key in names if found[key] is None]
        if self._store.remote is not None and lacking:
            brought = self._pool.map(lambda key: self._store.recall_or_bring(key, well_formed), lacking)
            found |= dict(zip(lacking, brought, strict=True))
        return {key: note for key, note in found.items() if note is not None}
