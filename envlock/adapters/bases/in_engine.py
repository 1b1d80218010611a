"""Bases in an engine: a container of the base answers what is asked about it, and another one compiles.

Each starts when it is first needed; the one that compiles also ahead of that, as most builds need it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from envlock.adapters.bases.archives import config_in, keep_layers, kept_layers
from envlock.adapters.bases.configs import Blobs, config_in_registry
from envlock.adapters.bases.empty import container_skeleton, refuse_occupied
from envlock.adapters.bases.interpreters import INTERPRETERS, LocalInterpreters
from envlock.adapters.bases.lazy import Lazy, LazyCompiler
from envlock.adapters.bases.listing import listed
from envlock.adapters.bases.remembered import Remembered
from envlock.adapters.compilers import ENVIRONMENT, PipedCompiler, process_compiler, worker_argv
from envlock.errors import UnknownImage, WorldError
from envlock.formats.base_files import BaseFiles
from envlock.layers.compiler import Compiler
from envlock.layers.skeleton import Skeleton
from envlock.layers.store import LayerStore
from envlock.layers.target import target_of
from envlock.model.layers import StoredLayer
from envlock.model.lock import Base, Descriptor
from envlock.ports import Container, Engine, Progress, Registry

# Where the engine gives GPUs to every container, it would put files and folders of the driver into this one, too.
_ENVIRONMENT = {"NVIDIA_VISIBLE_DEVICES": "void"}


class SavingEngine(Engine, Protocol):
    """An engine that also packs images."""

    def saved(self, image: str) -> AbstractContextManager[IO[bytes]]:
        """Give an image as ``docker save`` writes it; reading may stop anywhere."""


class Have(Protocol):
    """How a base comes into the engine."""

    def __call__(self, base: Base, *, platform: str) -> str:
        """Have it there, and return what the engine calls it; raises ``EngineError`` and what pulling raises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineBases:
    """Implements ``ports.Bases`` with an engine; ``registry`` and ``blobs`` are asked for what does not need one."""

    engine: SavingEngine
    registry: Registry
    blobs: Blobs
    have: Have
    store: LayerStore  # for layers of bases that only the engine has
    cache: Path  # a folder for what was found out about bases
    progress: Progress

    @contextmanager
    def opened(self, base: Base, *, platform: str) -> Iterator[EngineBase]:
        """Give a base; its container, where one was started, ends with the context."""
        opened = EngineBase(self, base, platform)
        try:
            yield opened
        finally:
            opened.close()


class EngineBase:
    """Implements ``ports.OpenedBase``; safe to use from several threads."""

    def __init__(self, bases: EngineBases, base: Base, platform: str) -> None:
        self._bases = bases
        self._base = base
        self._platform = platform
        self._remembered = Remembered(bases.cache)
        self._container = Lazy(self._started)
        self._compilers = Lazy(lambda: self._compiling(self._have), start_early=self._compiling_early)
        self._listing = threading.Lock()
        self._files: BaseFiles | None = None
        self._interpreters = LocalInterpreters(bases.cache / INTERPRETERS, scripts=False)
        self._target = target_of(base.python)

    @property
    def base(self) -> Base:
        """Return what the lock says of it."""
        return self._base

    def close(self) -> None:
        """End what was started."""
        with ExitStack() as stack:
            stack.callback(self._container.close)
            stack.callback(self._compilers.close)

    def config(self) -> bytes:
        """Return the image configuration: from the registry, or else as the engine packs it."""
        return self._remembered.config(self._base, self._find_config)

    def files(self) -> BaseFiles:
        """Return its folders, links and accounts."""
        with self._listing:
            if self._files is None:
                self._files = self._remembered.files(self._base, self._list)
            return self._files

    def skeleton(self, venv: str) -> Skeleton:
        """Return the empty environment at this path."""
        refuse_occupied(self._base, self.files(), venv)
        return container_skeleton(self._untouched(), self._base, venv)

    @contextmanager
    def compiler(self) -> Iterator[Compiler]:
        """Give an interpreter of this machine that is exactly the base's version, or the base's own."""
        compiler = LazyCompiler(self._compilers.get)
        try:
            yield compiler
        finally:
            compiler.close()
            self._compilers.release()

    def warm(self) -> None:
        """Start what compiles, where it needs no pull of the base."""
        self._compilers.warm()

    def layer(self, blob: Descriptor) -> IO[bytes]:
        """Return one of its layers as the registry has it."""
        return self._bases.blobs.open(self._base.repository, blob)

    def local_layers(self) -> tuple[StoredLayer, ...]:
        """Return the layers of a base that is in no registry, as the engine packs them; none of any other."""
        if self._base.layers:
            return ()
        store, diff_ids = self._bases.store, self._base.diff_ids
        known = [layer for layer in kept_layers(diff_ids, store) if layer is not None]
        if len(known) < len(diff_ids):
            with (
                self._bases.progress.task(f"Taking {self._base.reference} out of the engine"),
                self._bases.engine.saved(self._have()) as archive,
            ):
                known = keep_layers(archive, diff_ids, store, spool=self._bases.cache / "spool")
        return tuple(known)

    def _have(self) -> str:
        return self._bases.have(self._base, platform=self._platform)

    def _find_config(self) -> bytes:
        if self._base.manifest_digest is None:
            return self._packed_config(self._have())
        try:
            return config_in_registry(self._base, self._bases.registry, self._bases.blobs, platform=self._platform)
        except (WorldError, UnknownImage):
            name = self._in_engine()
            if name is None:
                raise
            return self._packed_config(name)

    def _packed_config(self, name: str) -> bytes:
        with self._bases.engine.saved(name) as archive:
            return config_in(archive, self._base.image_id)

    def _in_engine(self) -> str | None:
        """Return what the engine calls the base where it has it already."""
        names = (self._base.pinned, self._base.image_id)
        return next((name for name in names if self._bases.engine.find(name) is not None), None)

    def _started(self) -> AbstractContextManager[Container]:
        return self._bases.engine.container(self._have(), python=self._base.python.executable, env=_ENVIRONMENT)

    def _compiling_early(self) -> AbstractContextManager[Compiler] | None:
        local = self._interpreters.find(self._target)
        name = self._in_engine() if local is None else ""
        return None if name is None else self._compiling(lambda: name)

    @contextmanager
    def _compiling(self, name: Callable[[], str]) -> Iterator[Compiler]:
        local = self._interpreters.find(self._target)
        if local is not None:
            with process_compiler([local], self._target) as compiler:
                yield compiler
            return
        argv = worker_argv([self._base.python.executable])
        with (
            self._bases.engine.piped(name(), argv, env={**_ENVIRONMENT, **ENVIRONMENT}) as pipe,
            PipedCompiler(pipe, self._target) as compiler,
        ):
            yield compiler

    def _list(self) -> BaseFiles:
        return listed(self._container.get(), python=self._base.python.executable, config=self.config())

    def _untouched(self) -> Container:
        """Return the container, for something that changes files in it: they have to be listed before."""
        self.files()
        return self._container.get()
