"""An image as one tar that engines load: an OCI layout and Docker's manifest.json over the same blobs.

Engines before the containerd image store read ``manifest.json``; those with it read ``index.json``. Both take an
archive without the blobs that they have already (tried on 20.10, 26.1 and 28.5, overlay2 and containerd store).
The tar is made while it is read; every layer is held against its digest on the way.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import IO

from envlock.errors import DamagedLayer, HashMismatch
from envlock.formats import oci
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.lock import Descriptor

OpenLayer = Callable[[StoredLayer], IO[bytes]]  # a layer's tar, from its start; whoever asks closes it
OpenBlob = Callable[[Descriptor], IO[bytes]]  # a base layer as its registry has it, from its start; likewise

BLOCK = 1 << 20  # bytes; what is in memory of a layer


@dataclass(frozen=True, kw_only=True, slots=True)
class Loadable:
    """An image as an archive names it: our layers as plain tars, the base's as in its registry."""

    image: ComposedImage
    platform: str
    manifest: bytes
    layers: tuple[Descriptor, ...]  # all, from the bottom

    @property
    def digest(self) -> str:
        """Return the manifest's digest: the ID that the containerd image store gives to the loaded image."""
        return oci.digest_of(self.manifest)


def loadable(image: ComposedImage, *, platform: str, local_base: Sequence[Descriptor] = ()) -> Loadable:
    """Return what to load; ``local_base`` describes the layers of a base that is in no registry, as plain tars."""
    base = image.base_layers or tuple(local_base)
    layers = (
        *base,
        *(Descriptor(media_type=oci.LAYER_TAR, digest=layer.diff_id, size=layer.size) for layer in image.layers),
    )
    manifest = oci.manifest(oci.described(oci.CONFIG, image.config), layers)
    return Loadable(image=image, platform=platform, manifest=manifest, layers=layers)


def archive(
    loaded: Loadable,
    *,
    names: Sequence[str] = (),
    without: Collection[str] = (),
    open_layer: OpenLayer,
    open_blob: OpenBlob | None = None,
) -> Iterator[bytes]:
    """Yield the archive, in blocks of at most 1 MiB.

    ``without`` are digests of layers that stay out; base layers stay out without ``open_blob``. Raises ``DamagedLayer``
    where a stored layer is not what it says, ``HashMismatch`` for a base layer, and what opening and reading raise.
    """
    image = loaded.image
    config = oci.described(oci.CONFIG, image.config)
    manifest = oci.described(oci.MANIFEST, loaded.manifest)
    yield from file(oci.LAYOUT_FILE, oci.LAYOUT)
    yield from file("index.json", oci.index(manifest, platform=loaded.platform, names=names))
    yield from file("manifest.json", oci.docker_manifest(config, loaded.layers, names=names))
    yield from file(oci.blob_path(config.digest), image.config)
    yield from file(oci.blob_path(manifest.digest), loaded.manifest)
    done = set(without)
    count = len(loaded.layers) - len(image.layers)
    for blob in loaded.layers[:count]:
        if open_blob is not None and blob.digest not in done:
            done.add(blob.digest)
            with closing(open_blob(blob)) as stream:
                yield from _blob(blob, stream, _wrong_base)
    for layer, blob in zip(image.layers, loaded.layers[count:], strict=True):
        if blob.digest not in done:
            done.add(blob.digest)
            yield from layer_file(layer, open_layer)
    yield bytes(2 * tarfile.BLOCKSIZE)


def layer_file(layer: StoredLayer, open_layer: OpenLayer) -> Iterator[bytes]:
    """Yield a layer's part of an archive; raises ``DamagedLayer``, and what opening and reading raise."""
    blob = Descriptor(media_type=oci.LAYER_TAR, digest=layer.diff_id, size=layer.size)
    with closing(open_layer(layer)) as stream:
        yield from _blob(blob, stream, partial(damaged, layer))


def file(path: str, content: bytes) -> Iterator[bytes]:
    """Yield a small file's part of a tar."""
    yield header(path, len(content))
    yield content
    yield padding(len(content))


def header(path: str, size: int) -> bytes:
    """Return the header of a file in a tar."""
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    """Return what fills a file's last block."""
    return bytes(-size % tarfile.BLOCKSIZE)


def checked(
    blob: Descriptor, stream: IO[bytes], wrong: Callable[[Descriptor, str], HashMismatch] | None = None
) -> Iterator[bytes]:
    """Yield a blob's bytes; raises ``HashMismatch`` (or what ``wrong`` makes of it) where they are not the blob's.

    Never yields more than the blob's size, and raises before its last byte is out: nobody gets a whole wrong blob.
    """
    left, digest, held = blob.size, hashlib.sha256(), b""
    while block := stream.read(min(BLOCK, left + 1)):
        left -= len(block)
        digest.update(block)
        if left < 0:
            break
        if held:
            yield held
        held = block
    found = f"sha256:{digest.hexdigest()}"
    if left or found != blob.digest:
        size = f", {-left} bytes too many" if left < 0 else f", {left} bytes missing" if left else ""
        raise (wrong or mismatch)(blob, found + size)
    yield held


def mismatch(blob: Descriptor, found: str) -> HashMismatch:
    """Return the error for a blob that is not what its digest says."""
    return HashMismatch(
        f"a layer is not what its digest says: expected {blob.digest}, found {found}",
        hint="something between here and its registry changes what it sends: a proxy, or a broken mirror?",
    )


def damaged(layer: StoredLayer, found: str) -> DamagedLayer:
    """Return the error for a stored layer that is not what it was."""
    return DamagedLayer(
        f"the layer {layer.title} in the local store changed on disk: expected {layer.diff_id}, found {found}",
        key=layer.key,
        hint="it is made again the next time",
    )


def _wrong_base(found: str) -> HashMismatch:
    return HashMismatch(f"a layer of the base is not what its digest says: found {found}")


def _blob(blob: Descriptor, stream: IO[bytes], wrong: Callable[[str], HashMismatch]) -> Iterable[bytes]:
    yield header(oci.blob_path(blob.digest), blob.size)
    yield from checked(blob, stream, lambda _, found: wrong(found))
    yield padding(blob.size)
