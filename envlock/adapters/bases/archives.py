"""What ``docker save`` writes, read while it comes: an image's configuration, and its layers as plain tars.

Older engines name the configuration ``<image ID>.json`` and a layer ``<number>/layer.tar``; newer ones, and those with
the containerd image store, write an OCI layout, in which layers may be compressed. So a layer is told by what it is.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from envlock.adapters.bases.packed import BROKEN, plain
from envlock.errors import EngineError, HashMismatch
from envlock.formats import oci
from envlock.layers.store import LayerStore, storage
from envlock.model.layers import StoredLayer

_BLOCK = 1 << 20  # bytes
_LARGEST_CONFIG = 16 << 20  # bytes; as for registries


def config_in(archive: IO[bytes], image_id: str) -> bytes:
    """Return the configuration with this digest, and read no further.

    Raises ``HashMismatch`` where it is not there, ``EngineError`` where the ID is none of a configuration.
    """
    wanted = oci.hex_of(image_id)
    for member, content in _files(archive):
        if wanted in member.name and member.size <= _LARGEST_CONFIG:
            found = content.read()
            if oci.digest_of(found) == image_id:
                return _checked(found, image_id)
    raise HashMismatch(f"the engine's image has another configuration than {image_id}")


def _checked(content: bytes, image_id: str) -> bytes:
    try:
        if "rootfs" in json.loads(content):
            return content
    except (ValueError, TypeError):
        pass
    raise EngineError(
        f"{image_id[:19]} is the digest of a manifest, as the containerd image store calls a local base",
        hint="push the base to a registry and lock again, or build with --plain",
    )


def layer_key(diff_id: str) -> str:
    """Return by what key the store keeps a layer of a base."""
    return hashlib.sha256(f"base layer{diff_id}".encode()).hexdigest()


def kept_layers(diff_ids: Sequence[str], store: LayerStore) -> list[StoredLayer | None]:
    """Return those layers that were taken out of an image before."""
    return [store.find(layer_key(diff_id)) for diff_id in diff_ids]


def keep_layers(archive: IO[bytes], diff_ids: Sequence[str], store: LayerStore, *, spool: Path) -> list[StoredLayer]:
    """Put an image's layers into the store and return them; what has another digest than these is passed over.

    ``spool`` is a folder with room for one layer. Raises ``HashMismatch`` where one is not there, ``StorageError``.
    """
    left = set(diff_ids)
    found: dict[str, StoredLayer] = {}
    for _, content in _files(archive):
        with _spooled(content, spool) as (file, diff_id, size):
            if diff_id in left:
                left.remove(diff_id)
                found[diff_id] = _keep(file, diff_id, size, store)
        if not left:
            break
    if left:
        raise HashMismatch(f"the engine's image lacks layers of the base: {', '.join(sorted(left))}")
    return [found[diff_id] for diff_id in diff_ids]


def _keep(file: IO[bytes], diff_id: str, size: int, store: LayerStore) -> StoredLayer:
    with store.layers.making(layer_key(diff_id)) as making:
        if making.found:
            return making.found
        for block in _blocks(file.read):
            making.file.write(block)
        return making.keep(diff_id=diff_id, size=size, title=f"layer {diff_id[7:19]} of the base")


def _files(archive: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    try:
        with tarfile.open(fileobj=archive, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None:
                    yield member, content
    except tarfile.TarError as error:
        raise EngineError("the engine's image archive cannot be read", details=[str(error)]) from error


@contextmanager
def _spooled(content: IO[bytes], folder: Path) -> Iterator[tuple[IO[bytes], str, int]]:
    """Give a file's bytes, uncompressed, as an unnamed file, with their digest and number."""
    digest, size = hashlib.sha256(), 0
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed below
    with file:
        # Something else than a layer may begin like one; it is only not what is looked for then.
        with closing(plain(content)) as stream, suppress(*BROKEN):
            for block in _blocks(stream.read):
                digest.update(block)
                size += len(block)
                with storage(folder):
                    file.write(block)
        file.seek(0)
        yield file, f"sha256:{digest.hexdigest()}", size


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    return iter(lambda: read(_BLOCK), b"")
