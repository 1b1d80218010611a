"""The JSON documents of an image (OCI image spec 1.0): configuration, manifest, index, layout; and their digests.

All of them are canonical JSON (sorted keys, no spaces, UTF-8): the same image is the same bytes, so it has the same
digests, wherever it is composed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from envlock.errors import InputError, RegistryError
from envlock.formats.reference import parse_reference
from envlock.model.lock import Descriptor

CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

LAYOUT_FILE = "oci-layout"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

# Layers are the same bytes under Docker's names and OCI's; tools refuse a manifest that mixes them.
_LAYERS = {
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TAR,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": LAYER_ZSTD,
    LAYER_TAR: LAYER_TAR,
    LAYER_GZIP: LAYER_GZIP,
    LAYER_ZSTD: LAYER_ZSTD,
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def canonical(data: Any) -> bytes:
    """Return JSON with sorted keys and no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(content: bytes) -> str:
    """Return "sha256:<hex>"."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def hex_of(digest: str) -> str:
    """Return a digest without its algorithm; raises ``InputError`` for anything but sha256."""
    if not _DIGEST.fullmatch(digest):
        raise InputError(f"{digest[:80]!r} is not a sha256 digest")
    return digest.removeprefix("sha256:")


def blob_path(digest: str) -> str:
    """Return where a layout keeps a blob."""
    return f"blobs/sha256/{hex_of(digest)}"


def described(media_type: str, content: bytes) -> Descriptor:
    """Return the descriptor of a document."""
    return Descriptor(media_type=media_type, digest=digest_of(content), size=len(content))


def as_oci(layer: Descriptor) -> Descriptor:
    """Return a base's layer under OCI's name for its type; raises ``RegistryError`` for what nobody may copy."""
    media_type = _LAYERS.get(layer.media_type)
    if media_type is None:
        raise RegistryError(
            f"a layer of the base is of a type that cannot be passed on: {layer.media_type}",
            hint="choose a Linux base whose layers are plain tars",
        )
    return Descriptor(media_type=media_type, digest=layer.digest, size=layer.size)


def chain_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """Return what engines know stacks of layers by, from the bottom (OCI image spec, layer ChainID)."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


def manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """Return an image manifest."""
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _json(config),
            "layers": [_json(layer) for layer in layers],
        }
    )


def index(image: Descriptor, *, platform: str, names: Sequence[str] = ()) -> bytes:
    """Return a layout's index: the image once for each name, or once without one.

    ``names`` are references with a tag. containerd takes them from an annotation of its own, podman and skopeo from
    OCI's, all in full, with the registry.
    """
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    place = {"os": system, "architecture": architecture} | ({"variant": variant} if variant else {})
    entry = {**_json(image), "platform": place}
    entries = [
        {
            **entry,
            "annotations": {
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name,
            },
        }
        for name in map(_in_full, names)
    ]
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries or [entry]})


def docker_manifest(config: Descriptor, layers: Sequence[Descriptor], *, names: Sequence[str] = ()) -> bytes:
    """Return manifest.json, by which ``docker load`` reads an archive on engines without the containerd store."""
    return canonical(
        [
            {
                "Config": blob_path(config.digest),
                "RepoTags": list(names) or None,
                "Layers": [blob_path(layer.digest) for layer in layers],
            }
        ]
    )


def _in_full(name: str) -> str:
    reference = parse_reference(name)
    return f"{reference.repository}:{reference.target}"


def _json(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
