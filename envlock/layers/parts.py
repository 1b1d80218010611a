"""Parts: the entries of one small wheel each, kept so that a shared layer can be put together by copying."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from envlock.layers.archive import WheelArchive
from envlock.layers.grouping import WheelGroup
from envlock.layers.keys import wheel_key
from envlock.layers.scheme import plan_installation
from envlock.layers.sinks import Index, Indexed, folders_of, runs_of
from envlock.layers.store import LayerStore
from envlock.layers.tar_writer import TarWriter
from envlock.layers.target import Target
from envlock.layers.wheel_layer import write_wheel
from envlock.layers.work import Work
from envlock.model.layers import StoredLayer
from envlock.model.lock import Wheel

_BLOCK = 1 << 20
_NOTHING: frozenset[str] = frozenset()


class DamagedPart(Exception):
    """A part in the store is not what it was."""


class Parts:
    """Makes parts, and layers of them."""

    def __init__(self, store: LayerStore, target: Target, work: Work, advance: Callable[[int], None]) -> None:
        self._store = store
        self._target = target
        self._work = work
        self._advance = advance

    def has(self, wheel: Wheel) -> bool:
        """Say whether a wheel's part is there."""
        return self._store.parts.find(wheel_key("part", wheel, self._target)) is not None

    def make(self, wheel: Wheel, path: Callable[[Wheel], Path]) -> None:
        """Make a wheel's part, unless it is there. Raises as ``write_wheel`` does."""
        self._work.check()
        with self._store.parts.making(wheel_key("part", wheel, self._target)) as making:
            if making.found:
                return
            with WheelArchive(path(wheel), title=wheel.filename) as archive:
                plan = plan_installation(archive, name=wheel.name, target=self._target, requested=wheel.requested)
                tar = Indexed(making.file)
                write_wheel(archive, plan, tar, target=self._target, compile_=self._work.compile, advance=self._watched)
            written = tar.flush()
            title = f"{wheel.name} {wheel.version}"
            making.keep(diff_id=written.diff_id, size=written.size, title=title, index=tar.index)

    def together(
        self,
        group: WheelGroup,
        key: str,
        left_out: Mapping[str, frozenset[str]],
        before: Sequence[Future[None]],
        path: Callable[[Wheel], Path],
    ) -> StoredLayer:
        """Make a shared layer once all its parts are there."""
        for part in before:
            part.result()
        while True:
            try:
                return self._together(group, key, left_out, path)
            except DamagedPart:
                self._work.check()

    def _together(
        self,
        group: WheelGroup,
        key: str,
        left_out: Mapping[str, frozenset[str]],
        path: Callable[[Wheel], Path],
    ) -> StoredLayer:
        with self._store.layers.making(key) as making:
            if making.found:
                return making.found
            tar = TarWriter(making.file)
            for wheel in group.wheels:
                if not self.has(wheel):
                    self.make(wheel, path)
                self._copy(wheel_key("part", wheel, self._target), tar, left_out.get(wheel.name, _NOTHING))
            written = tar.finish()
            return making.keep(diff_id=written.diff_id, size=written.size, title=group.title)

    def _copy(self, key: str, tar: TarWriter, left_out: frozenset[str]) -> None:
        """Copy a part, checking it."""
        part = self._store.parts.find(key)
        index: Index | None = self._store.parts.index(key)
        if part is None or index is None:
            raise DamagedPart(key)
        for folder in folders_of(index, left_out):
            tar.folder(folder)
        tar.entries(self._checked(key, part, runs_of(index, left_out)))

    def _checked(self, key: str, part: StoredLayer, runs: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Yield what is to be copied of a part; at its end it turns out whether the part was as it should be."""
        digest, position = hashlib.sha256(), 0
        try:
            with self._store.parts.path(key).open("rb") as file:
                for start, length in (*runs, (part.size, 0)):
                    for end, wanted in ((start, False), (start + length, True)):
                        while position < end and (block := file.read(min(_BLOCK, end - position))):
                            digest.update(block)
                            position += len(block)
                            if wanted:
                                yield block
        except FileNotFoundError:
            raise DamagedPart(key) from None
        if f"sha256:{digest.hexdigest()}" != part.diff_id:
            self._store.parts.drop(key)
            raise DamagedPart(key)

    def _watched(self, amount: int) -> None:
        self._work.check()
        self._advance(amount)
