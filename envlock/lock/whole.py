"""The whole lock: the base first, then what goes into it, asked inside it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from envlock.inputs import inputs_of, settle
from envlock.lock.apt import AptLock, lock_apt
from envlock.lock.apt_gateway import AptGateway
from envlock.lock.base import PinnedBase, check_python, look_inside, pin_base
from envlock.lock.cuda import base_cuda, check_cuda
from envlock.lock.interpreter import Interpreter, probe
from envlock.lock.python import PythonLock, lock_python
from envlock.model.lock import Base, Lock
from envlock.model.spec import Requested, Spec
from envlock.ports import (
    AptArchive,
    Artifacts,
    Container,
    Engine,
    Handler,
    PackageIndex,
    Progress,
    Registry,
    Resolver,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Upgrade:
    """What may move although the lock so far pins it."""

    everything: bool = False
    packages: frozenset[str] = frozenset()  # normalized Python names and Debian names

    def __bool__(self) -> bool:
        """Return whether anything may move."""
        return self.everything or bool(self.packages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The parts of the world that locking asks."""

    engine: Engine
    registry: Registry
    index: PackageIndex
    apt: AptArchive
    resolver: Resolver
    artifacts: Artifacts
    progress: Progress


def lock(requested: Requested, *, previous: Lock | None, upgrade: Upgrade, sources: Sources) -> Lock:
    """Return the lock for a request.

    What ``previous`` pins stays where the request and ``upgrade`` let it; with nothing to resolve, nothing is asked
    of the world at all. Raises ``InputError`` (the base, the requirements), ``WorldError`` (engine, registry, index).
    """
    if previous is not None and not upgrade and previous.inputs == inputs_of(requested):
        return settle(requested, previous)
    kept = None if upgrade.everything else previous
    pinned = pin_base(
        requested.spec,
        locked=kept.base if kept else None,
        engine=sources.engine,
        registry=sources.registry,
        progress=sources.progress,
    )
    kept = _for_base(kept, pinned)
    gateway = AptGateway(sources.apt)
    with sources.engine.container(pinned.image.id, handler=gateway) as container:
        interpreter, base = _look(requested.spec, pinned, container)
        # apt and pip know nothing of each other and both wait for the network most of the time
        with ThreadPoolExecutor(1) as pool:
            apt = pool.submit(
                lock_apt,
                requested,
                container=container,
                gateway=gateway,
                previous=kept,
                upgrade=upgrade.packages,
                progress=sources.progress,
            )
            python = _python(requested, interpreter, pinned, kept=kept, upgrade=upgrade, sources=sources)
            return _joined(requested, base, apt.result(), python)


def _look(spec: Spec, pinned: PinnedBase, container: Container) -> tuple[Interpreter, Base]:
    interpreter = probe(container, wanted=spec.python)
    check_python(spec, interpreter)
    return interpreter, look_inside(pinned, container, interpreter, cuda=base_cuda(container))


def _python(
    requested: Requested,
    interpreter: Interpreter,
    pinned: PinnedBase,
    *,
    kept: Lock | None,
    upgrade: Upgrade,
    sources: Sources,
) -> PythonLock:
    def containers(handler: Handler | None) -> AbstractContextManager[Container]:
        return sources.engine.container(pinned.image.id, handler=handler)

    return lock_python(
        requested,
        interpreter=interpreter,
        containers=containers,
        index=sources.index,
        resolver=sources.resolver,
        artifacts=sources.artifacts,
        previous=kept,
        upgrade=upgrade.everything,
        upgrade_packages=upgrade.packages,
        progress=sources.progress,
    )


def _joined(requested: Requested, base: Base, apt: AptLock, python: PythonLock) -> Lock:
    spec = requested.spec
    return Lock(
        name=spec.name,
        platform=spec.platform,
        base=base,
        apt_sources=apt.sources,
        debs=apt.debs,
        python_sources=python.sources,
        wheels=python.wheels,
        installer=python.installer,
        cuda=check_cuda(base=base.cuda, debs=apt.debs, wheels=python.wheels, wanted=spec.cuda),
        env=dict(spec.env),
        seeds=spec.seeds,
        image=spec.image,
        project=spec.project,
        mlflow=spec.mlflow,
        inputs=inputs_of(requested),
    )


def _for_base(kept: Lock | None, pinned: PinnedBase) -> Lock | None:
    """Return what may be kept of the lock so far: of another base's .debs nothing, its closure was another."""
    if kept is not None and kept.base.image_id != pinned.image_id:
        return replace(kept, debs=())
    return kept
