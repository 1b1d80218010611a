"""Layers that envlock makes itself, and the image that they are composed into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envlock.model.lock import Descriptor


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredLayer:
    """A layer in the local store: an uncompressed tar, known by what it was made from and by what it is.

    ``key`` says what it was made from (a sha256 over the wheels' hashes, the target interpreter and the layer format's
    version); ``diff_id`` is the sha256 of the tar itself (OCI image spec, DiffID).
    """

    key: str  # hex
    diff_id: str  # "sha256:<hex>"
    size: int  # bytes of the tar
    title: str  # for people and the image's history: "torch 2.1.2", "14 packages: attrs … zipp"


@dataclass(frozen=True, kw_only=True, slots=True)
class OfferedLayer:
    """A layer that a remote place says it has; whether it is what it says turns out when it comes."""

    layer: StoredLayer  # what it is to be
    blob: Descriptor  # as the remote keeps it, compressed
    packing: str  # by what it was compressed (``gzip_members.METHOD``), or "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedImage:
    """An image as data: its configuration's exact bytes, and its layers from the bottom."""

    config: bytes  # OCI image configuration, canonical JSON
    image_id: str  # "sha256:<hex>" of ``config``
    base_layers: tuple[Descriptor, ...]  # compressed, as in the base's registry; empty where the base is only local
    base_diff_ids: tuple[str, ...]
    layers: tuple[StoredLayer, ...]  # above the base

    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Return all layers' diff IDs from the bottom."""
        return (*self.base_diff_ids, *(layer.diff_id for layer in self.layers))
