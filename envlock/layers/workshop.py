"""Making single layers, and the parts that shared layers are put together from.

A *part* is the entries of one small wheel. The store keeps parts as well, so that a layer that many wheels share is
made again by copying when one of them changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from envlock.layers.archive import WheelArchive
from envlock.layers.grouping import WheelGroup
from envlock.layers.keys import wheel_key
from envlock.layers.scheme import compiled_path, plan_installation
from envlock.layers.sinks import Index, Indexed, Without, folders_of, runs_of
from envlock.layers.store import LayerStore
from envlock.layers.tar_writer import TarWriter
from envlock.layers.target import Target
from envlock.layers.wheel_layer import write_wheel
from envlock.layers.work import Work
from envlock.model.layers import StoredLayer
from envlock.model.lock import Wheel

_BLOCK = 1 << 20

PathOf = Callable[[Wheel], Path]


class DamagedPart(Exception):
    """A part in the store is not what it was. Never leaves this module: the part is made again."""


class Workshop:
    """Makes layers and parts for one target; what it makes goes into the store.

    ``shadows``: which files of which package are left out. ``advance`` is told how many bytes of wheels are done.
    """

    def __init__(
        self,
        store: LayerStore,
        target: Target,
        *,
        work: Work,
        shadows: Mapping[str, frozenset[str]],
        path_of: PathOf,
        advance: Callable[[int], None],
    ) -> None:
        self._store = store
        self._target = target
        self._work = work
        self._shadows = shadows
        self._path_of = path_of
        self._advance = advance

    def has_part(self, wheel: Wheel) -> bool:
        """Say whether a wheel's part is there."""
        return self._store.parts.find(wheel_key("part", wheel, self._target)) is not None

    def part(self, wheel: Wheel) -> None:
        """Make a wheel's part, unless it is there. Raises as ``write_wheel`` does."""
        self._work.check()
        with self._store.parts.making(wheel_key("part", wheel, self._target), waiting=self._work.check) as making:
            if making.found:
                return
            tar = Indexed(making.file)
            self._write(wheel, tar)
            written = tar.flush()
            title = f"{wheel.name} {wheel.version}"
            making.keep(diff_id=written.diff_id, size=written.size, title=title, index=tar.index)

    def alone(self, group: WheelGroup, key: str) -> StoredLayer:
        """Make the layer of one large wheel. Raises as ``write_wheel`` does."""
        self._work.check()
        (wheel,) = group.wheels
        with self._store.layers.making(key, waiting=self._work.check) as making:
            if making.found:
                return making.found
            tar = Without(making.file, self._left_out(wheel))
            self._write(wheel, tar)
            written = tar.finish()
            return making.keep(diff_id=written.diff_id, size=written.size, title=group.title)

    def shared(self, group: WheelGroup, key: str, before: Sequence[Future[None]]) -> StoredLayer:
        """Put a shared layer together once its parts are there (``before``)."""
        for part in before:
            part.result()
        while True:
            self._work.check()
            try:
                return self._together(group, key)
            except DamagedPart:
                continue

    def _write(self, wheel: Wheel, tar: TarWriter) -> None:
        with WheelArchive(self._path_of(wheel), title=wheel.filename) as archive:
            plan = plan_installation(archive, wheel, target=self._target)
            write_wheel(archive, plan, tar, target=self._target, compile_=self._work.compile, advance=self._watched)

    def _watched(self, amount: int) -> None:
        self._work.check()
        self._advance(amount)

    def _left_out(self, wheel: Wheel) -> frozenset[str]:
        """Return the paths of a wheel that another one's replace, with those of the files compiled from them."""
        paths = self._shadows.get(wheel.name, frozenset())
        return paths.union(compiled_path(path, self._target) for path in paths if path.endswith(".py"))

    def _together(self, group: WheelGroup, key: str) -> StoredLayer:
        with self._store.layers.making(key, waiting=self._work.check) as making:
            if making.found:
                return making.found
            tar = TarWriter(making.file)
            for wheel in group.wheels:
                if not self.has_part(wheel):
                    self.part(wheel)
                self._copy(wheel, tar)
            written = tar.finish()
            return making.keep(diff_id=written.diff_id, size=written.size, title=group.title)

    def _copy(self, wheel: Wheel, tar: TarWriter) -> None:
        """Copy a part, checking it."""
        key = wheel_key("part", wheel, self._target)
        part = self._store.parts.find(key)
        index: Index | None = self._store.parts.index(key)
        if part is None or index is None:
            raise DamagedPart(key)
        left_out = self._left_out(wheel)
        for folder in folders_of(index, left_out):
            tar.folder(folder)
        tar.entries(self._checked(part, runs_of(index, left_out)))

    def _checked(self, part: StoredLayer, runs: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Yield what is to be copied of a part; at its end it turns out whether the part was as it should be."""
        digest, position = hashlib.sha256(), 0
        try:
            with self._store.parts.path(part.key).open("rb") as file:
                for start, length in (*runs, (part.size, 0)):
                    for end, wanted in ((start, False), (start + length, True)):
                        while position < end and (block := file.read(min(_BLOCK, end - position))):
                            digest.update(block)
                            position += len(block)
                            if wanted:
                                yield block
        except FileNotFoundError:
            raise DamagedPart(part.key) from None
        if f"sha256:{digest.hexdigest()}" != part.diff_id:
            self._store.parts.drop(part.key)
            raise DamagedPart(part.key)
