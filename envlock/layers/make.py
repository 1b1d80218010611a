"""All layers of a lock's wheels: those that the store has, those that its remote has, and the others made on all cores.

Every wheel is one piece of work. Small wheels become *parts*, which the store keeps too, so that a changed pin costs
unpacking and compiling one wheel, however many share its layer. Reading, inflating, hashing and writing are done in
threads (zlib, hashlib and the file system let other threads run); compiling is done in other processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from envlock.layers.archive import WheelArchive
from envlock.layers.bringing import Bringing
from envlock.layers.compiler import Compiler
from envlock.layers.grouping import WheelGroup, group_wheels
from envlock.layers.keys import layer_key, shadows_key, wheel_key
from envlock.layers.scheme import plan_installation
from envlock.layers.shadows import Files, is_files, is_shadows, is_tops, shadowed, tops, touching
from envlock.layers.store import LayerStore
from envlock.layers.target import Target
from envlock.layers.work import Work
from envlock.layers.workshop import Workshop
from envlock.model.layers import StoredLayer
from envlock.model.lock import Wheel

Fetch = Callable[[Sequence[Wheel]], Mapping[str, Path]]  # have these wheels here, checked: sha256 → path
Advance = Callable[[int], None]
Begin = Callable[[], object]
Outlook = Callable[[Sequence[StoredLayer | None]], None]


def _nobody(_: object = None) -> None:
    pass


class LayerMaker:
    """Makes layers of wheels for one target. ``workers``: how many at a time (default: one a core)."""

    def __init__(self, store: LayerStore, compiler: Compiler, target: Target, *, workers: int | None = None) -> None:
        self._store = store
        self._compiler = compiler
        self._target = target
        self._workers = workers or len(os.sched_getaffinity(0))

    def make(self, wheels: Sequence[Wheel], *, fetch: Fetch) -> tuple[StoredLayer, ...]:
        """Return the layers of all wheels, bottom first; raises as ``each`` does."""
        return tuple(self.each(wheels, fetch=fetch))

    def each(
        self,
        wheels: Sequence[Wheel],
        *,
        fetch: Fetch,
        advance: Advance = _nobody,
        begin: Begin = _nobody,
        outlook: Outlook = _nobody,
    ) -> Iterator[StoredLayer]:
        """Yield the layers of all wheels, bottom first, each as soon as it and all below it are there.

        ``fetch`` is only asked for wheels that something lacks. ``advance`` is told how many bytes of wheels are done,
        from several threads. ``begin`` is called as soon as it looks as if something will have to be compiled,
        ``outlook`` with all layers, None for those that are still to come, where there are such.
        Raises ``InputError`` for wheels that cannot be installed, ``StorageError``, and what ``fetch`` and the compiler
        raise.
        """
        here = _Here(fetch, begin)
        groups = group_wheels(wheels)
        with Bringing(self._store) as bringing:
            shadows = self._shadows(wheels, here, bringing)
            keys = [layer_key(group.wheels, self._target, shadows, alone=group.alone) for group in groups]
            found = {key: self._store.find(key) for key in keys}
            missing = {key: group for group, key in zip(groups, keys, strict=True) if found[key] is None}
            if missing:
                self._store.sweep()
                outlook(
                    [
                        layer and replace(layer, title=group.title)
                        for layer, group in zip(found.values(), groups, strict=True)
                    ]
                )
            coming = bringing.layers(missing)
            with Work(self._workers, self._compiler) as work:
                workshop = Workshop(
                    self._store, self._target, work=work, shadows=shadows, path_of=here.path, advance=advance
                )
                made = _start(workshop, work, {key: missing[key] for key in missing if key not in coming}, here)
                for key, group in zip(keys, groups, strict=True):
                    layer = found[key]
                    if layer is None and key in coming:
                        layer = coming.pop(key).result()
                        if layer is not None:
                            advance(group.size)
                        else:
                            late = [key, *(other for other, future in coming.items() if future.result() is None)]
                            made |= _start(workshop, work, {other: missing[other] for other in late}, here)
                            coming = {other: future for other, future in coming.items() if other not in late}
                    # The title is in the image's history: not for a remote to say.
                    yield replace(layer or made[key].result(), title=group.title)

    def notes(self, wheels: Sequence[Wheel]) -> dict[str, Any]:
        """Return what the store knows of wheels whose layers were made, by key.

        With these notes and the layers another machine needs none of the wheels.
        """
        keys = [shadows_key(wheels, self._target), *(wheel_key("files", wheel, self._target) for wheel in wheels)]
        found = {key: self._store.recall(key) for key in keys}
        return {key: note for key, note in found.items() if note is not None}

    def _shadows(self, wheels: Sequence[Wheel], here: _Here, bringing: Bringing) -> dict[str, frozenset[str]]:
        """Return which files of which package another package replaces; remembered for a whole list."""
        key = shadows_key(wheels, self._target)
        note = self._store.recall_or_bring(key, partial(is_shadows, names={wheel.name for wheel in wheels}))
        if note is None:
            if self._store.remote is None:
                here.begin()  # a list that is new has a wheel that is new, nearly always
            close = touching(self._all_tops(wheels, here, bringing))
            lost = shadowed(self._all_files([wheel for wheel in wheels if wheel.name in close], here, bringing))
            note = {name: sorted(paths) for name, paths in lost.items()}
            self._store.remember(key, note)
        return {name: frozenset(paths) for name, paths in note.items()}

    def _all_tops(self, wheels: Sequence[Wheel], here: _Here, bringing: Bringing) -> dict[str, list[str]]:
        """Return the tops of each wheel; a small note of each, as nearly all lists of files are never looked at."""
        keys = {wheel.name: wheel_key("tops", wheel, self._target) for wheel in wheels}
        known = {key: self._store.recall(key, is_tops) for key in keys.values()}
        # They are offered to other machines, and must not grow old meanwhile.
        self._store.mark_wanted(wheel_key("files", wheel, self._target) for wheel in wheels)
        lacking = [wheel for wheel in wheels if known[keys[wheel.name]] is None]
        for name, files in self._all_files(lacking, here, bringing).items():
            known[keys[name]] = tops(files.paths, self._target)
            self._store.remember(keys[name], known[keys[name]])
        return {name: known[key] for name, key in keys.items()}

    def _all_files(self, wheels: Sequence[Wheel], here: _Here, bringing: Bringing) -> dict[str, Files]:
        """Return which files each wheel installs; wheels that nobody knew so far are fetched."""
        keys = {wheel.name: wheel_key("files", wheel, self._target) for wheel in wheels}
        known = bringing.notes(keys.values(), is_files)
        here.have([wheel for wheel in wheels if keys[wheel.name] not in known])
        for wheel in wheels:
            key = keys[wheel.name]
            if key not in known:
                known[key] = self._files(wheel, here.path(wheel))
                self._store.remember(key, known[key])
        return {name: Files(*known[key]) for name, key in keys.items()}

    def _files(self, wheel: Wheel, path: Path) -> Files:
        with WheelArchive(path, title=wheel.filename) as archive:
            plan = plan_installation(archive, wheel, target=self._target)
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

    def __init__(self, fetch: Fetch, begin: Begin) -> None:
        self._fetch = fetch
        self._begin: Begin | None = begin
        self._paths: dict[str, Path] = {}

    def begin(self) -> None:
        begin, self._begin = self._begin, None
        if begin is not None:
            begin()

    def have(self, wheels: Sequence[Wheel]) -> None:
        lacking = [wheel for wheel in wheels if wheel.sha256 not in self._paths]
        if lacking:
            self.begin()
            self._paths |= self._fetch(lacking)

    def path(self, wheel: Wheel) -> Path:
        if wheel.sha256 in self._paths and not self._paths[wheel.sha256].exists():
            del self._paths[wheel.sha256]  # somebody pruned the cache while others were fetched
        self.have([wheel])
        return self._paths[wheel.sha256]
