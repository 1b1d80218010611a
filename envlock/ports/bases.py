"""Base images that can be looked into, and whose own Python runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import IO, Protocol

from envlock.formats.base_files import BaseFiles
from envlock.layers.compiler import Compiler
from envlock.layers.skeleton import Skeleton
from envlock.model.layers import StoredLayer
from envlock.model.lock import Base, Descriptor


class OpenedBase(Protocol):
    """One base image, pinned. Each question is answered when it is asked, and what never changes is remembered."""

    @property
    def base(self) -> Base:
        """Return what the lock says of it."""

    def config(self) -> bytes:
        """Return the image configuration (OCI image spec, config), byte for byte.

        Raises ``HashMismatch``, ``UnknownImage``, ``RegistryError``, ``EngineError``.
        """

    def files(self) -> BaseFiles:
        """Return its folders, links and accounts; the same whoever is asked (an engine, or the registry's layers)."""

    def skeleton(self, venv: str) -> Skeleton:
        """Return what ``python -m venv --without-pip`` of its own Python makes at this path.

        Raises ``BuildFailed`` where that fails, or an empty environment of this base has packages in it already.
        """

    def compiler(self) -> AbstractContextManager[Compiler]:
        """Give an interpreter of exactly the base's version; nothing is started before something is to be compiled.

        Raises ``WorldError`` where there is none, then or at first use.
        """

    def warm(self) -> None:
        """Start what compiling will need, in the background; nothing is wrong where it is not needed after all."""

    def layer(self, blob: Descriptor) -> IO[bytes]:
        """Return one of its layers as the registry has it, checked; whoever asks closes it."""

    def local_layers(self) -> tuple[StoredLayer, ...]:
        """Return its layers where it is in no registry and only the engine has it (else none), bottom first."""


class Bases(Protocol):
    """Where bases come from."""

    def opened(self, base: Base, *, platform: str) -> AbstractContextManager[OpenedBase]:
        """Give a base; what it needs (a container, an unpacked file system) lives as long as the context."""
