"""Image registries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from envlock.model.lock import Descriptor


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A platform's image in a registry."""

    repository: str
    index_digest: str | None  # where the reference was a multi-platform index
    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    env: Mapping[str, str]


class Registry(Protocol):
    """The registry that an image reference names (OCI distribution spec)."""

    def manifest(self, reference: str, *, platform: str) -> Manifest:
        """Resolve a tag or digest for a platform; raises ``RegistryError``, ``UnknownImage``."""
