"""Spec to lock: everything that is pinned, resolved for the base image and never for this machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from envlock.lock.apt import AptLock, lock_apt
from envlock.lock.apt_gateway import AptGateway
from envlock.lock.base import PinnedBase, check_python, look_inside, pin_base
from envlock.lock.cuda import base_cuda, check_cuda
from envlock.lock.inputs import changes, inputs_of, settle
from envlock.lock.interpreter import Interpreter, probe
from envlock.lock.python import PythonLock, lock_python
from envlock.model.lock import Lock
from envlock.model.spec import Requested
from envlock.ports import (
    AptArchive,
    Artifacts,
    Container,
    Engine,
    GatewayRequest,
    GatewayResponse,
    PackageIndex,
    Progress,
    Registry,
    Resolver,
)

__all__ = ["Upgrade", "World", "changes", "lock"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Upgrade:
    """What may move although the lock so far pins it."""

    everything: bool = False
    packages: frozenset[str] = frozenset()  # normalized Python names or Debian names

    def __bool__(self) -> bool:
        """Return whether anything may move."""
        return self.everything or bool(self.packages)


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The parts of the world that locking asks."""

    engine: Engine
    registry: Registry
    index: PackageIndex
    apt: AptArchive
    resolver: Resolver
    artifacts: Artifacts
    progress: Progress


def lock(requested: Requested, *, previous: Lock | None, upgrade: Upgrade, world: World) -> Lock:
    """Return the lock for a request.

    What ``previous`` pins stays where the request and ``upgrade`` let it; with nothing to resolve, nothing is asked
    of the world at all. Raises ``InputError`` (the base, the requirements), ``WorldError`` (engine, registry, index).
    """
    if previous is not None and not upgrade and previous.inputs == inputs_of(requested):
        return settle(requested, previous)
    kept = None if upgrade.everything else previous
    spec = requested.spec
    pinned = pin_base(
        spec,
        locked=kept.base if kept else None,
        engine=world.engine,
        registry=world.registry,
        progress=world.progress,
    )
    routes = Routes()
    with world.engine.container(pinned.image.id, handler=routes) as container:
        return _inside(requested, pinned, container, routes, kept=kept, upgrade=upgrade, world=world)
