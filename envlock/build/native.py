"""Composing the image from layers, and handing out what is lacking: to the engine, to registries, to the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from envlock.build.ahead import Ahead
from envlock.build.checked import installed_in
from envlock.build.engine_images import discarded_on_failure, forget_unfinished, have_base
from envlock.build.workshop import Builder, Offer, Stopwatch, Workshop
from envlock.compose import Assembled, Means, assemble
from envlock.errors import DamagedLayer, EnvlockError
from envlock.formats import oci
from envlock.formats.installed import as_locked
from envlock.formats.oci_archive import Loadable, loadable
from envlock.model.image import Image, Installed
from envlock.model.layers import ComposedImage
from envlock.model.lock import Descriptor
from envlock.model.plan import Plan
from envlock.ports import EngineImage, Loaded, OpenedBase, Supplies, Wanted

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlets:
    """Where a composed image goes, beside the engine."""

    names: tuple[str, ...]
    pushed: tuple[str, ...] = ()  # those names that are pushed
    layout: Path | None = None
    inspect: bool = True  # ask the image's own Python what is installed


def build_native(
    plan: Plan, outlets: Outlets, workshop: Workshop, *, wanted: Callable[[], Sequence[Wanted]], project: Path
) -> Image:
    """Return the image, made now or found; a layer that turns out to be damaged in the store is made again.

    Raises ``EngineError``, ``RegistryError``, ``StorageError``, ``BuildFailed`` and what fetching raises.
    """
    with workshop.bases.opened(plan.base, platform=plan.lock.platform) as base:
        job = _Job(plan, outlets, workshop, base, wanted=wanted, project=project)
        return _again_if_damaged(job.run, workshop)


def _again_if_damaged(work: Callable[[], T], workshop: Workshop) -> T:
    dropped: set[str] = set()
    while True:
        try:
            return work()
        except DamagedLayer as error:
            if error.key in dropped:
                raise
            dropped.add(error.key)
            workshop.store.drop(error.key)
            workshop.progress.message(f"{error.message}; making it again")


def means_of(plan: Plan, workshop: Workshop) -> Means:
    """Return what a plan's layers are made with in a workshop."""
    engine = workshop.engine
    return Means(
        store=workshop.store,
        artifacts=workshop.artifacts,
        progress=workshop.progress,
        installer=engine,
        base_in_engine=None if engine is None else lambda: _base_in(engine, plan, workshop),
    )


def _base_in(engine: Builder, plan: Plan, workshop: Workshop) -> str:
    return have_base(plan.base, platform=plan.lock.platform, engine=engine, progress=workshop.progress)


class _Job:
    def __init__(
        self,
        plan: Plan,
        outlets: Outlets,
        workshop: Workshop,
        base: OpenedBase,
        *,
        wanted: Callable[[], Sequence[Wanted]],
        project: Path,
    ) -> None:
        self._plan = plan
        self._outlets = outlets
        self._workshop = workshop
        self._base = base
        self._wanted = wanted
        self._project = project
        self._watch = Stopwatch()

    def run(self) -> Image:
        engine, publisher = self._workshop.engine, self._workshop.publisher
        if engine is None:
            assembled = self._assembled(means_of(self._plan, self._workshop))
            installed, reused = as_locked(self._plan.lock), False
        else:
            before = cache(partial(engine.find, self._outlets.names[0]))
            with self._ahead(engine, before) as ahead:
                assembled = self._assembled(replace(means_of(self._plan, self._workshop), ahead=ahead))
                installed, reused = self._in_engine(assembled.image, engine, ahead, before)
        composed = assembled.image
        if self._workshop.offer is not None:
            with self._watch("share"):
                self._share(assembled, self._workshop.offer)
        digest = publisher.digest(composed)
        if self._outlets.pushed:
            with self._watch("push"):
                digest = self._push(composed)
        if self._outlets.layout is not None:
            with self._watch("write"):
                digest = self._write(composed, self._outlets.layout)
        return Image(
            reference=self._outlets.names[0],
            tags=self._outlets.names,
            image_id=composed.image_id,
            fingerprint=self._plan.fingerprint,
            manifest_digest=digest,
            pushed=next(iter(self._outlets.pushed), None),
            installed=installed,
            reused=reused,
            seconds=self._watch.seconds,
        )

    def _assembled(self, means: Means) -> Assembled:
        with self._watch("layers"):
            return assemble(self._plan, self._base, means, wanted=self._wanted, project=self._project)

    # --- the engine ---------------------------------------------------------------------------------------------------

    def _ahead(self, engine: Builder, before: Callable[[], EngineImage | None]) -> Ahead:
        return Ahead(
            self._plan,
            engine,
            self._supplies(engine),
            loadable=partial(self._loadable, engine=engine),
            before=before,
            progress=self._workshop.progress,
        )

    def _supplies(self, engine: Builder) -> Supplies:
        return Supplies(
            open_layer=self._workshop.store.open,
            pull_base=lambda: _base_in(engine, self._plan, self._workshop),
            open_blob=self._base.layer if self._plan.base.layers else None,
        )

    def _in_engine(
        self, composed: ComposedImage, engine: Builder, ahead: Ahead, before: Callable[[], EngineImage | None]
    ) -> tuple[Installed, bool]:
        """Load and tag; return what is installed, and whether nothing had to be done."""
        image, unfinished = self._loadable(composed, engine), self._workshop.unfinished
        ids = (composed.image_id, image.digest)
        with unfinished.sending(ids) as remember:
            found = before()
            if not (found is not None and found.id in ids) and not any(map(engine.find, ids)):
                remember()
            with self._watch("load"):
                loaded = self._loaded(image, ahead)
            current = found if found is not None and found.id == loaded.id else None
            with discarded_on_failure(loaded.id, engine):
                installed = self._installed(composed, loaded.id, engine)
                with self._watch("tag"):
                    for name in self._untagged(current):
                        engine.tag(loaded.id, name)
        with suppress(EnvlockError):  # the image is what was asked for
            if current is None:
                ahead.forget_abandoned()
            forget_unfinished(unfinished, engine)
        return installed, current is not None

    @staticmethod
    def _loaded(image: Loadable, ahead: Ahead) -> Loaded:
        try:
            return ahead.load(image)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                "the engine may still be at work on the image; a later build takes away what comes of it"
            )
            raise

    def _untagged(self, found: EngineImage | None) -> list[str]:
        there = set(found.tags) if found is not None else set()
        return [name for name in reversed(self._outlets.names) if name not in there]

    def _installed(self, composed: ComposedImage, loaded: str, engine: Builder) -> Installed:
        if not self._outlets.inspect:
            return self._workshop.readings.get(composed.image_id) or as_locked(self._plan.lock)
        with self._watch("inspect"):
            return installed_in(loaded, self._plan, self._workshop, engine)

    def _loadable(self, composed: ComposedImage, engine: Builder) -> Loadable:
        platform = self._plan.lock.platform
        if composed.base_layers:
            return loadable(composed, platform=platform)
        if engine.info().per_blob:
            sizes = [layer.size for layer in self._base.local_layers()]
        else:  # such engines know the layers by their chain, and never look at the sizes
            sizes = [0] * len(composed.base_diff_ids)
        local = [
            Descriptor(media_type=oci.LAYER_TAR, digest=diff_id, size=size)
            for diff_id, size in zip(composed.base_diff_ids, sizes, strict=True)
        ]
        return loadable(composed, platform=platform, local_base=local)

    # --- registries and disk ------------------------------------------------------------------------------------------

    def _share(self, assembled: Assembled, offer: Offer) -> None:
        shop = self._workshop
        try:
            offer(assembled.reusable, assembled.notes(), open_layer=shop.store.open, progress=shop.progress)
        except DamagedLayer:
            raise
        except EnvlockError as error:  # the image is what was asked for; others will have to make the layers
            shop.progress.message(f"the layers are not shared: {error.message}")

    def _push(self, composed: ComposedImage) -> str:
        return self._workshop.publisher.publish(
            composed,
            self._outlets.pushed,
            base=self._base,
            open_layer=self._workshop.store.open,
            progress=self._workshop.progress,
        )

    def _write(self, composed: ComposedImage, target: Path) -> str:
        return self._workshop.layouts.write(
            composed,
            target,
            platform=self._plan.lock.platform,
            names=self._outlets.names,
            base=self._base,
            open_layer=self._workshop.store.open,
            progress=self._workshop.progress,
        )
