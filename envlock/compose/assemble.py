"""All layers of a plan, found or made, and the image that they come to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, Protocol

from envlock.compose.image import compose
from envlock.compose.small import SmallLayer, small_layers
from envlock.compose.system import Installer, SystemPackages, system_layer
from envlock.errors import EngineError
from envlock.formats.base_files import BaseFiles, as_json, from_json, read_layers
from envlock.formats.oci import LAYER_TAR, canonical
from envlock.formats.oci_archive import checked, damaged
from envlock.layers.hashed import Hashed
from envlock.layers.make import LayerMaker
from envlock.layers.skeleton import skeleton_layer
from envlock.layers.store import LayerStore
from envlock.layers.target import target_of
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.lock import Deb, Descriptor, Wheel
from envlock.model.plan import Plan
from envlock.ports import Artifacts, OpenedBase, Progress, Wanted

_FORMAT = 1  # of the notes about files


class Ahead(Protocol):
    """Who is told of layers while others are being made; ``config`` is the base's configuration."""

    def outlook(self, config: bytes, layers: Sequence[StoredLayer | None]) -> None:
        """Take note of the layers of all packages, from the bottom, once; None is being made."""

    def reached(self, config: bytes, layers: Sequence[StoredLayer]) -> None:
        """Take note of the layers that are there, up to the first that is not."""


class _Nobody:
    def outlook(self, config: bytes, layers: Sequence[StoredLayer | None]) -> None:
        pass

    def reached(self, config: bytes, layers: Sequence[StoredLayer]) -> None:
        pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """What layers are made with; without an engine there is no ``installer``, and no name for the base."""

    store: LayerStore
    artifacts: Artifacts
    progress: Progress
    installer: Installer | None = None
    base_in_engine: Callable[[], str] | None = None
    ahead: Ahead = field(default_factory=_Nobody)


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembled:
    """An image whose layers are all in the store."""

    image: ComposedImage
    reusable: tuple[StoredLayer, ...]  # those of packages: another project's images can have them, too
    notes: Callable[[], Mapping[str, Any]]  # what another machine has to know to find them, by key


def assemble(
    plan: Plan, base: OpenedBase, means: Means, *, wanted: Callable[[], Sequence[Wanted]], project: Path | None
) -> Assembled:
    """Return the plan's image; all its layers are in the store then.

    ``wanted`` gives every file of the plan, and is asked when the first one is lacking; ``project`` is the project's
    folder (None: leave its layer out). Raises ``EngineError`` where system packages have to be installed and there is
    no engine, and what making layers raises.
    """
    supply = _Supply(wanted, means)
    config = base.config()
    below: list[StoredLayer] = []
    system = _system(plan, means, supply)
    if system is not None:
        below.append(system)
    target = target_of(plan.base.python)
    below.append(skeleton_layer(means.store, plan.base, target, make=base.skeleton))
    with base.compiler() as compiler:
        maker = LayerMaker(means.store, compiler, target)
        lowest = tuple(below)
        with means.progress.task("Making layers", unit="B") as task:
            for layer in maker.each(
                plan.lock.wheels,
                fetch=supply,
                advance=task.advance,
                begin=base.warm,
                outlook=lambda layers: means.ahead.outlook(config, [*lowest, *layers]),
            ):
                below.append(layer)
                means.ahead.reached(config, below)
    files = _files(base, system, means.store)
    small = small_layers(plan, project=project, files=files)
    layers = [*below, *(_kept(layer, means.store) for layer in small)]
    return Assembled(
        image=compose(plan, layers, base_config=config),
        reusable=tuple(below),
        notes=partial(maker.notes, plan.lock.wheels),
    )


class _Supply:
    """The files of a plan, fetched when they are asked for."""

    def __init__(self, wanted: Callable[[], Sequence[Wanted]], means: Means) -> None:
        self._ask = wanted
        self._means = means

    def __call__(self, files: Sequence[Wheel] | Sequence[Deb]) -> Mapping[str, Path]:
        wanted = [self._wanted[file.sha256] for file in files]
        return self._means.artifacts.fetch(wanted, progress=self._means.progress)

    @cached_property
    def _wanted(self) -> Mapping[str, Wanted]:
        return {file.sha256: file for file in self._ask()}


def _system(plan: Plan, means: Means, supply: _Supply) -> StoredLayer | None:
    debs = plan.lock.debs
    if not debs:
        return None
    packages = SystemPackages(base=plan.base, debs=debs)
    found = means.store.find_or_bring(packages.key)
    if found is not None:
        return replace(found, title=packages.title)  # see ``system_layer``
    if means.installer is None or means.base_in_engine is None:
        raise EngineError(
            f"{len(debs)} system packages have to be installed, and only a container engine can do that",
            hint="build once where there is an engine, and share its layers: --cache-to there, --cache-from here",
            details=[f"{deb.name} {deb.version}" for deb in debs if deb.requested] or [deb.name for deb in debs],
        )
    return system_layer(
        packages,
        means.store,
        image=means.base_in_engine,
        installer=means.installer,
        files=lambda: supply(debs),
        progress=means.progress,
    )


def _files(base: OpenedBase, system: StoredLayer | None, store: LayerStore) -> BaseFiles:
    """Return what the small layers lie on; the folders of Python's layers are nobody else's."""
    if system is None:
        return base.files()
    key = hashlib.sha256(canonical(["files", _FORMAT, list(base.base.diff_ids), system.diff_id])).hexdigest()
    note = store.recall(key)
    if note is not None:
        try:
            return from_json(note)
        except (KeyError, TypeError, ValueError, AttributeError):
            store.forget(key)
    with store.open(system) as tar:
        _check(system, tar)
        tar.seek(0)
        found = read_layers([tar], below=base.files())
    store.remember(key, as_json(found))
    return found


def _check(layer: StoredLayer, tar: IO[bytes]) -> None:
    """Raise ``DamagedLayer`` where a stored tar is not the layer: what is found in it is remembered for good."""
    whole = Descriptor(media_type=LAYER_TAR, digest=layer.diff_id, size=layer.size)
    for _ in checked(whole, tar, lambda _, found: damaged(layer, found)):
        pass


def _kept(layer: SmallLayer, store: LayerStore) -> StoredLayer:
    found = store.find(layer.key)
    if found is not None:
        return found
    with store.layers.making(layer.key) as making:
        if making.found:
            return making.found
        tar = Hashed(making.file)
        for block in layer.blocks():
            tar.write(block)
        return making.keep(diff_id=tar.diff_id, size=tar.size, title=layer.title)
