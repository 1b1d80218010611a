"""All layers of a lock's wheels: those that the store has, and the missing ones made on all cores.

Every wheel is one piece of work. Small wheels become *parts*, which the store keeps too, so that a changed pin costs
unpacking and compiling one wheel, however many share its layer. Reading, inflating, hashing and writing are done in
threads (zlib, hashlib and the file system let other threads run); compiling is done in other processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from envlock.layers.archive import WheelArchive
from envlock.layers.compiler import Compiler
from envlock.layers.grouping import WheelGroup, group_wheels
from envlock.layers.keys import layer_key, shadows_key, wheel_key
from envlock.layers.scheme import plan_installation
from envlock.layers.shadows import Files, shadowed
from envlock.layers.store import LayerStore
from envlock.layers.target import Target
from envlock.layers.work import Work
from envlock.layers.workshop import Workshop
from envlock.model.layers import StoredLayer
from envlock.model.lock import Wheel

Fetch = Callable[[Sequence[Wheel]], Mapping[str, Path]]  # have these wheels here, checked: sha256 → path
Advance = Callable[[int], None]


def _nobody(_: int) -> None:
    pass


class LayerMaker:
    """Makes layers of wheels for one target. ``workers``: how many at a time (default: one a core)."""

    def __init__(self, store: LayerStore, compiler: Compiler, target: Target, *, workers: int | None = None) -> None:
        self._store = store
        self._compiler = compiler
        self._target = target
        self._workers = workers or len(os.sched_getaffinity(0))

    def make(self, wheels: Sequence[Wheel], *, fetch: Fetch, advance: Advance = _nobody) -> tuple[StoredLayer, ...]:
        """Return the layers of all wheels, bottom first; ``fetch`` is only asked for wheels that something lacks.

        ``advance`` is told how many bytes of wheels are done, from several threads. Raises ``InputError`` for wheels
        that cannot be installed, ``StorageError``, and what ``fetch`` and the compiler raise.
        """
        return tuple(self.each(wheels, fetch=fetch, advance=advance))

    def each(self, wheels: Sequence[Wheel], *, fetch: Fetch, advance: Advance = _nobody) -> Iterator[StoredLayer]:
        """Yield the layers as ``make`` returns them, each as soon as it and all below it are there."""
        here = _Here(fetch)
        groups = group_wheels(wheels)
        shadows = self._shadows(wheels, here)
        keys = [layer_key(group.wheels, self._target, shadows, alone=group.alone) for group in groups]
        found = [self._store.find(key) for key in keys]
        missing = {key: group for group, key, layer in zip(groups, keys, found, strict=True) if layer is None}
        if not missing:
            yield from (layer for layer in found if layer is not None)
            return
        self._store.sweep()
        with Work(self._workers, self._compiler) as work:
            workshop = Workshop(
                self._store, self._target, work=work, shadows=shadows, path_of=here.path, advance=advance
            )
            made = _start(workshop, work, missing, here)
            for key, layer in zip(keys, found, strict=True):
                yield layer or made[key].result()

    def _shadows(self, wheels: Sequence[Wheel], here: _Here) -> dict[str, frozenset[str]]:
        """Return which files of which package another package replaces; remembered for a whole list."""
        key = shadows_key(wheels, self._target)
        note = self._store.recall(key)
        if note is None:
            known = {wheel.name: self._store.recall(wheel_key("files", wheel, self._target)) for wheel in wheels}
            here.have([wheel for wheel in wheels if known[wheel.name] is None])
            for wheel in wheels:
                if known[wheel.name] is None:
                    known[wheel.name] = self._files(wheel, here.path(wheel))
                    self._store.remember(wheel_key("files", wheel, self._target), known[wheel.name])
            lost = shadowed({name: Files(*files) for name, files in known.items()})
            note = {name: sorted(paths) for name, paths in lost.items()}
            self._store.remember(key, note)
        return {name: frozenset(paths) for name, paths in note.items()}

    def _files(self, wheel: Wheel, path: Path) -> Files:
        with WheelArchive(path, title=wheel.filename) as archive:
            plan = plan_installation(archive, name=wheel.name, target=self._target, requested=wheel.requested)
            return Files(plan.paths(), plan.requires_python)


def _start(
    workshop: Workshop, work: Work, missing: Mapping[str, WheelGroup], here: _Here
) -> dict[str, Future[StoredLayer]]:
    """Start everything, the largest wheels first, so that no core is left alone with one of them at the end."""
    alone = {key: group for key, group in missing.items() if group.alone}
    shared = {key: group for key, group in missing.items() if not group.alone}
    small = (wheel for group in shared.values() for wheel in group.wheels)
    lacking = sorted((wheel for wheel in small if not workshop.has_part(wheel)), key=lambda wheel: -wheel.size)
    here.have([*(group.wheels[0] for group in alone.values()), *lacking])
    made = {key: work.submit(workshop.alone, group, key) for key, group in alone.items()}
    parts = {wheel.name: work.submit(workshop.part, wheel) for wheel in lacking}
    for key, group in shared.items():
        before = [parts[wheel.name] for wheel in group.wheels if wheel.name in parts]
        made[key] = work.submit(workshop.shared, group, key, before)
    return made


class _Here:
    """The wheels that were fetched for one run; each is asked for once."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._paths: dict[str, Path] = {}

    def have(self, wheels: Sequence[Wheel]) -> None:
        lacking = [wheel for wheel in wheels if wheel.sha256 not in self._paths]
        if lacking:
            self._paths |= self._fetch(lacking)

    def path(self, wheel: Wheel) -> Path:
        self.have([wheel])
        return self._paths[wheel.sha256]
