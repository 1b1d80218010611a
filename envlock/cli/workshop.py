"""What building works with, on this machine."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from envlock.adapters.guard import FileGuard
from envlock.adapters.image_readings import ImageReadings
from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.publishing import DiskLayouts, RegistryPublisher
from envlock.adapters.registry import HttpRegistry
from envlock.adapters.registry.push import Blobs
from envlock.adapters.unfinished import FileUnfinished
from envlock.build import Workshop, have_base
from envlock.cli.world import World
from envlock.layers.store import LayerStore
from envlock.ports import Bases

if TYPE_CHECKING:
    from envlock.build.workshop import Offer
    from envlock.layers.remote import CarefulRemote


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """The repositories of layers that machines share; "" for none."""

    read: str = ""
    write: str = ""


@contextmanager
def opened_workshop(*, with_engine: bool, sharing: Sharing, world: World) -> Iterator[Workshop]:
    """Give what building needs; without an engine, bases come from their registry."""
    packed = PackedLayers(world.cache / "packed")
    with ExitStack() as stack:
        remote = stack.enter_context(_shared(sharing.read, packed, world)) if sharing.read else None
        yield _workshop(packed, remote, with_engine=with_engine, sharing=sharing, world=world)


@contextmanager
def _shared(repository: str, packed: PackedLayers, world: World) -> Iterator[CarefulRemote]:
    from envlock.adapters.registry.shared_layers import SharedLayers
    from envlock.layers.remote import CarefulRemote

    with SharedLayers(repository, world.environ, packed=packed) as shared:
        yield CarefulRemote(shared, warn=world.progress.message)


def _offer(repository: str, packed: PackedLayers, world: World) -> Offer:
    from envlock.adapters.registry.layer_offers import LayerOffers

    return LayerOffers(repository, world.environ, packed=packed).offer


def _workshop(
    packed: PackedLayers, remote: CarefulRemote | None, *, with_engine: bool, sharing: Sharing, world: World
) -> Workshop:
    store = LayerStore(world.cache / "layers", remote=remote)
    blobs = Blobs(world.environ, packed=packed, mirrors=lambda: world.engine.info().mirrors if with_engine else ())
    return Workshop(
        engine=world.engine if with_engine else None,
        bases=_bases(blobs, store, with_engine=with_engine, world=world),
        store=store,
        artifacts=world.artifacts,
        publisher=RegistryPublisher(blobs, packed, world.pushes, shared=sharing.write or sharing.read),
        offer=_offer(sharing.write, packed, world) if sharing.write else None,
        layouts=DiskLayouts(packed),
        readings=ImageReadings(world.cache / "images"),
        unfinished=FileUnfinished(
            world.state / "unfinished" / (_name(world.engine.address) if with_engine else "none")
        ),
        guard=FileGuard(world.state / "locks", waiting=world.progress.message),
        progress=world.progress,
    )


def _name(address: str) -> str:
    """Return a name for a file: an address may say more than a path may, and a socket is this machine's."""
    return hashlib.sha256(f"{platform.node()} {address}".encode()).hexdigest()[:16]


def _bases(blobs: Blobs, store: LayerStore, *, with_engine: bool, world: World) -> Bases:
    cache = world.cache / "bases"
    if not with_engine:
        from envlock.adapters.bases.without_engine import UnpackedBases

        return UnpackedBases(
            registry=HttpRegistry(world.environ),
            blobs=blobs,
            artifacts=world.artifacts,
            cache=cache,
            progress=world.progress,
        )
    from envlock.adapters.bases.in_engine import EngineBases

    return EngineBases(
        engine=world.engine,
        registry=HttpRegistry(world.environ, mirrors=lambda: world.engine.info().mirrors),
        blobs=blobs,
        have=partial(have_base, engine=world.engine, progress=world.progress),
        store=store,
        cache=cache,
        progress=world.progress,
    )
