"""Bases without any engine: layers from the registry, and Python out of files that are unpacked on this machine."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO

from envlock.adapters.bases.configs import Blobs, config_in_registry
from envlock.adapters.bases.empty import refuse_occupied
from envlock.adapters.bases.interpreters import INTERPRETERS, LocalInterpreters
from envlock.adapters.bases.lazy import Lazy, LazyCompiler
from envlock.adapters.bases.listing import base_part
from envlock.adapters.bases.overlay import Overlay
from envlock.adapters.bases.packed import BROKEN, broken, plain
from envlock.adapters.bases.python_files import FORMAT, python_files, python_path
from envlock.adapters.bases.remembered import Remembered
from envlock.adapters.bases.unrooted import unrooted_skeleton
from envlock.adapters.compilers import process_compiler, unpacked_interpreter
from envlock.errors import UnknownImage, WorldError
from envlock.formats import oci
from envlock.formats.base_files import BaseFiles, read_layers
from envlock.layers.claims import claimed, scratch
from envlock.layers.compiler import Compiler
from envlock.layers.skeleton import Skeleton
from envlock.layers.store import storage
from envlock.layers.target import target_of
from envlock.model.layers import StoredLayer
from envlock.model.lock import Base, Descriptor
from envlock.ports import Artifacts, Progress, Registry, Wanted

_BLOCK = 256 << 10  # bytes
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}  # uname(2) → OCI's names


def this_machine() -> str:
    """Return this machine's platform, "linux/amd64"."""
    machine = os.uname().machine
    return f"{sys.platform}/{_MACHINES.get(machine, machine)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnpackedBases:
    """Implements ``ports.Bases`` without an engine.

    A base's own Python then runs as a process of this machine, with the rights of whoever runs envlock: who gives this
    object out decides that the base is trusted so far. It is said once.
    """

    registry: Registry
    blobs: Blobs
    artifacts: Artifacts
    cache: Path  # a folder for what was found out about bases, and for what is unpacked of them
    progress: Progress
    machine: str = field(default_factory=this_machine)
    told: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def opened(self, base: Base, *, platform: str) -> Iterator[UnpackedBase]:
        """Give a base."""
        yield UnpackedBase(self, base, platform)


class UnpackedBase:
    """Implements ``ports.OpenedBase``; safe to use from several threads."""

    def __init__(self, bases: UnpackedBases, base: Base, platform: str) -> None:
        self._bases = bases
        self._base = base
        self._platform = platform
        self._remembered = Remembered(bases.cache)
        self._interpreters = LocalInterpreters(bases.cache / INTERPRETERS, scripts=True)
        self._lock = threading.RLock()
        self._files: BaseFiles | None = None
        self._root: Path | None = None

    @property
    def base(self) -> Base:
        """Return what the lock says of it."""
        return self._base

    def config(self) -> bytes:
        """Return the image configuration."""
        self._check_registry()
        find_out = partial(
            config_in_registry, self._base, self._bases.registry, self._bases.blobs, platform=self._platform
        )
        return self._remembered.config(self._base, find_out)

    def files(self) -> BaseFiles:
        """Return its folders, links and accounts."""
        with self._lock:
            if self._files is None:
                self._files = self._remembered.files(self._base, self._read)
            return self._files

    def skeleton(self, venv: str) -> Skeleton:
        """Return the empty environment at this path; nothing is written there."""
        refuse_occupied(self._base, self.files(), venv)
        return unrooted_skeleton(self._unpacked(), self._base, venv, paths=python_path(self._base))

    @contextmanager
    def compiler(self) -> Iterator[Compiler]:
        """Give an interpreter of this machine that is exactly the base's version, or the base's own."""
        with closing(Lazy(self._compiling)) as lazy, closing(LazyCompiler(lazy.get)) as compiler:
            yield compiler

    def warm(self) -> None:
        """Do nothing: there is nothing to start."""

    def layer(self, blob: Descriptor) -> IO[bytes]:
        """Return one of its layers; it is kept among the fetched files."""
        path = self._fetched([blob])[blob.digest]
        with storage(path):
            return path.open("rb")

    def local_layers(self) -> tuple[StoredLayer, ...]:
        """Return none: a base that is in no registry cannot be had without its engine."""
        self._check_registry()
        return ()

    def _check_registry(self) -> None:
        if self._base.manifest_digest is None:
            raise UnknownImage(
                f"the base {self._base.reference} is in no registry",
                hint="build with the engine that has it, or push it to a registry and lock again",
            )

    def _fetched(self, blobs: Iterable[Descriptor]) -> dict[str, Path]:
        """Return where layers are on this machine, by digest."""
        self._check_registry()
        wanted = [
            Wanted(
                title=f"layer {blob.digest[7:19]} of {self._base.reference}",
                sha256=oci.hex_of(blob.digest),
                size=blob.size,
                open=partial(self._download, blob),
            )
            for blob in blobs
        ]
        found = self._bases.artifacts.fetch(wanted, progress=self._bases.progress)
        return {f"sha256:{name}": path for name, path in found.items()}

    @contextmanager
    def _download(self, blob: Descriptor) -> Iterator[Iterable[bytes]]:
        with self._bases.blobs.opened(self._base.repository, blob) as stream:
            yield iter(lambda: stream.read(_BLOCK), b"")

    @contextmanager
    def _layers(self) -> Iterator[Iterator[IO[bytes]]]:
        """Give all layers' tars, from the bottom, each as long as it is looked at."""
        paths = self._fetched(self._base.layers)

        def opened() -> Generator[IO[bytes], None, None]:
            for layer in self._base.layers:
                with storage(paths[layer.digest]):
                    file = paths[layer.digest].open("rb")
                with file, closing(plain(file)) as content:
                    yield content

        try:
            with closing(opened()) as layers:
                yield layers
        except BROKEN as error:
            raise broken(f"a layer of {self._base.reference}", error) from error

    def _read(self) -> BaseFiles:
        with self._layers() as layers, self._bases.progress.task(f"Reading the layers of {self._base.reference}"):
            return base_part(read_layers(layers))

    def _compiling(self) -> AbstractContextManager[Compiler]:
        target = target_of(self._base.python)
        local = self._interpreters.find(target)
        if local is not None:
            return process_compiler([local], target)
        argv, environment = unpacked_interpreter(self._unpacked(), self._base.python.executable)
        return process_compiler(argv, target, environment=environment)

    # --- the base's own Python ----------------------------------------------------------------------------------------

    def _unpacked(self) -> Path:
        """Return a folder with as much of the base as its Python needs to run here."""
        self._check_runs_here()
        with self._lock:
            if self._root is None:
                self._root = self._unpack()
            if not self._bases.told.is_set():
                self._bases.told.set()
                self._bases.progress.message(
                    f"Without an engine, the Python {self._base.python.version} of {self._base.reference} runs on this "
                    "machine itself, and in no container"
                )
            return self._root

    def _check_runs_here(self) -> None:
        python = self._base.python
        machine = "/".join(self._platform.split("/")[:2])
        reason = ""
        if machine != self._bases.machine:
            reason = f"it is for {self._platform}, and this machine is {self._bases.machine}"
        elif not python.libc.startswith("glibc"):
            reason = f"it is linked with {python.libc or 'an unknown C library'}, and only glibc's way is known"
        if reason:
            raise WorldError(
                f"the Python of {self._base.reference} cannot run on this machine without an engine: {reason}",
                hint=f"use an engine; compiling alone also works with exactly Python {python.version} on the PATH",
            )

    def _unpack(self) -> Path:
        rules = python_files(self._base)
        what = ["envlock base python", FORMAT, list(self._base.diff_ids), list(rules.prefixes), rules.library]
        key = sha256(oci.canonical([*what, list(rules.paths)])).hexdigest()
        place = self._bases.cache / "roots" / key
        if place.is_dir():
            with suppress(OSError):
                os.utime(place)  # what is wanted is not pruned
            return place
        with storage(place), claimed(place.with_name(f"{key}.claim")):
            if place.is_dir():  # another process was faster
                return place
            with scratch(place.parent, "making") as making:
                (making / "spool").mkdir()
                (making / "root").mkdir()
                self._lay(Overlay(making / "spool", wanted=rules.wants), making / "root")
                (making / "root").rename(place)
        return place

    def _lay(self, overlay: Overlay, folder: Path) -> None:
        with self._layers() as layers, self._bases.progress.task(f"Unpacking Python of {self._base.reference}"):
            for layer in layers:
                overlay.add(layer)
            overlay.write(folder)
