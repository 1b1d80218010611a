"""Resolving with this machine's world: for ``lock``, and for ``build`` where there is no lock."""

from __future__ import annotations

from pathlib import Path

from envlock.adapters.registry import HttpRegistry
from envlock.adapters.resolvers.pip_tools import PipToolsResolver
from envlock.adapters.resolvers.uv import UvResolver
from envlock.cli.packages import apt, indexes
from envlock.cli.world import World
from envlock.lock import Sources, Upgrade, lock, python_sources
from envlock.model.lock import Lock
from envlock.model.spec import Requested
from envlock.ports import Resolver


def lock_now(
    requested: Requested,
    previous: Lock | None = None,
    *,
    world: World,
    spec: Path,
    everything: bool = False,
    packages: frozenset[str] = frozenset(),
) -> Lock:
    """Resolve; of what ``previous`` pins, only ``everything`` or these packages may move without need."""
    return lock(
        requested,
        previous=previous,
        upgrade=Upgrade(everything=everything, packages=packages),
        sources=_sources(requested, spec.resolve().parent, world=world),
    )


def _sources(requested: Requested, folder: Path, *, world: World) -> Sources:
    """Return what locking a spec of this folder asks."""
    return Sources(
        engine=world.engine,
        registry=HttpRegistry(world.environ, mirrors=lambda: world.engine.info().mirrors),
        index=indexes(python_sources(requested.spec.pip), folder, world),
        apt=apt(world),
        resolver=_resolver(requested.spec.pip.resolver, world),
        artifacts=world.artifacts,
        progress=world.progress,
    )


def _resolver(name: str, world: World) -> Resolver:
    return UvResolver(world.environ) if name == "uv" else PipToolsResolver()
