"""Resolving with this machine's world: for ``lock``, and for ``build`` where there is no lock."""

from __future__ import annotations

from pathlib import Path

from envlock.cli.packages import sources
from envlock.cli.world import World
from envlock.lock import Upgrade, lock
from envlock.model.lock import Lock
from envlock.model.spec import Requested


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
        sources=sources(requested, spec.resolve().parent, world=world),
    )
