"""A base's configuration, from its registry."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import IO, Protocol

from envlock.errors import HashMismatch
from envlock.model.lock import Base, Descriptor
from envlock.ports import Registry


class Blobs(Protocol):
    """The part of ``adapters.registry.push.Blobs`` that is needed here."""

    def config(self, repository: str, blob: Descriptor) -> bytes:
        """Return an image's configuration; raises ``UnknownImage``, ``HashMismatch``, ``RegistryError``."""

    def opened(self, repository: str, blob: Descriptor) -> AbstractContextManager[IO[bytes]]:
        """Give a blob as a stream; raises as ``config``, at the latest where its last block is read."""

    def open(self, repository: str, blob: Descriptor) -> IO[bytes]:
        """Return a blob as a stream that whoever asks closes."""


def config_in_registry(base: Base, registry: Registry, blobs: Blobs, *, platform: str) -> bytes:
    """Return a base's configuration; its size, which the lock has not, stands in the manifest.

    Raises ``UnknownImage``, ``HashMismatch``, ``RegistryError``.
    """
    config = registry.manifest(base.pinned, platform=platform).config
    if config.digest != base.image_id:
        raise HashMismatch(f"{base.pinned} has the configuration {config.digest}, and the lock says {base.image_id}")
    return blobs.config(base.repository, config)
