"""Composed images on their way out: to registries and to OCI layouts (``build.workshop.Publisher``, ``Layouts``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry.push import Blobs
from envlock.formats import oci
from envlock.formats.gzip_members import is_pinned
from envlock.formats.oci_archive import OpenLayer
from envlock.formats.reference import parse_reference
from envlock.layers.claims import write_at_once
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.lock import Descriptor
from envlock.ports import OpenedBase, Progress

ARCHIVE = ".tar"


class PushMemory:
    """Which registry knows an image by which manifest digest. It is a cache: what cannot be read is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, image_id: str, repository: str) -> str | None:
        """Return the manifest digest that an image was pushed to a repository with from here."""
        found = self._read(image_id).get(parse_reference(repository).repository)
        return found if isinstance(found, str) else None

    def remember(self, image_id: str, repository: str, digest: str) -> None:
        """Keep it, for whoever records the image later."""
        known = self._read(image_id) | {parse_reference(repository).repository: digest}
        with suppress(OSError):
            write_at_once(self._path(image_id), oci.canonical(known))

    def _read(self, image_id: str) -> dict[str, object]:
        try:
            found = json.loads(self._path(image_id).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{oci.hex_of(image_id)}.json"


class RegistryPublisher:
    """Pushes layers that are compressed the same way on every machine, so the manifest digest is the same, too."""

    def __init__(self, blobs: Blobs, packed: PackedLayers, memory: PushMemory, *, shared: str = "") -> None:
        """``shared`` is a repository of layers, which a registry need not be sent."""
        self._shared = shared
        self._blobs = blobs
        self._packed = packed
        self._memory = memory

    def publish(
        self,
        image: ComposedImage,
        references: Sequence[str],
        *,
        base: OpenedBase,
        open_layer: OpenLayer,
        progress: Progress,
    ) -> str:
        """Have the image in each repository under all its names; raises as ``Blobs.push``."""
        _warn(progress)
        digest = ""
        for repository, names in _by_repository(references).items():
            pushed = self._blobs.push(
                image,
                names,
                base=base.base.repository,
                open_layer=open_layer,
                open_blob=base.layer,
                local_base=_local(image, base),
                shared=self._shared,
                progress=progress,
            )
            digest = pushed.digest
            self._memory.remember(image.image_id, repository, digest)
        return digest

    def digest(self, image: ComposedImage, *, open_layer: OpenLayer | None = None) -> str | None:
        """Return the manifest digest where all layers were compressed here before, or are now (``open_layer``)."""
        known = [self._packed.known(layer) for layer in image.layers]
        if open_layer is not None:
            known = [blob or self._pack(layer, open_layer) for blob, layer in zip(known, image.layers, strict=True)]
        layers = [layer for layer in known if layer is not None]
        if len(layers) < len(known) or len(image.base_layers) != len(image.base_diff_ids):
            return None
        return oci.digest_of(oci.manifest(oci.described(oci.CONFIG, image.config), [*image.base_layers, *layers]))

    def _pack(self, layer: StoredLayer, open_layer: OpenLayer) -> Descriptor:
        with self._packed.packed(layer, open_layer) as (blob, _):
            return blob


class DiskLayouts:
    """Writes OCI layouts."""

    def __init__(self, packed: PackedLayers) -> None:
        self._packed = packed

    def check(self, target: Path) -> None:
        """Raise ``UsageError`` for a place that holds something else, ``StorageError`` for one that cannot be seen."""
        from envlock.adapters.oci_layout import check  # noqa: PLC0415 - few builds ask for a layout

        check(target, archive=target.name.endswith(ARCHIVE))

    def write(
        self,
        image: ComposedImage,
        target: Path,
        *,
        platform: str,
        names: Sequence[str],
        base: OpenedBase,
        open_layer: OpenLayer,
        progress: Progress,
    ) -> str:
        """Write a folder, or an archive where the name ends in ".tar"; raises as ``write_layout``."""
        from envlock.adapters.oci_layout import Sources, write_layout  # noqa: PLC0415 - few builds ask for a layout

        _warn(progress)
        return write_layout(
            image,
            target,
            platform=platform,
            names=names,
            archive=target.name.endswith(ARCHIVE),
            sources=Sources(
                packed=self._packed, open_layer=open_layer, open_blob=base.layer, local_base=_local(image, base)
            ),
            progress=progress,
        )


def _warn(progress: Progress) -> None:
    if not is_pinned():
        progress.message(
            "The library that compresses layers (libdeflate) is another one here than envlock's wheels bring: manifest "
            "digests will differ from those of other machines. Image IDs will not"
        )


def _local(image: ComposedImage, base: OpenedBase) -> tuple[StoredLayer, ...]:
    return () if image.base_layers else base.local_layers()


def _by_repository(references: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for reference in references:
        found.setdefault(parse_reference(reference).repository, []).append(reference)
    return found
