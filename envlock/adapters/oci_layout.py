"""An image as an OCI layout, in a folder or in one tar file, with no engine at all (OCI image spec, image layout).

Layers are compressed as in a registry, so the manifest has the digest that a push gives it. ``manifest.json`` is in it
too: engines before the containerd image store load the archive by that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from envlock.adapters.packed_layers import PackedLayers
from envlock.errors import RegistryError, StorageError, UsageError
from envlock.formats import oci
from envlock.formats.oci_archive import BLOCK, OpenBlob, OpenLayer, checked, header, padding
from envlock.layers.claims import claimed
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.lock import Descriptor
from envlock.ports import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Where layers come from."""

    packed: PackedLayers
    open_layer: OpenLayer
    open_blob: OpenBlob  # base layers, from their registry
    local_base: Sequence[StoredLayer] = ()  # the layers of a base that is in no registry


def write_layout(
    image: ComposedImage,
    target: Path,
    *,
    platform: str,
    names: Sequence[str] = (),
    archive: bool,
    sources: Sources,
    progress: Progress,
) -> str:
    """Write the image to ``target`` and return its manifest digest; ``archive`` for one tar file in place of a folder.

    Nothing is at ``target`` before it is whole. An existing archive, or layout folder, is replaced. Raises
    ``UsageError`` for a folder that is no layout, ``StorageError``, and what the sources raise.
    """
    check(target, archive=archive)
    target = Path(os.path.abspath(target))  # noqa: PTH100 - links stay links
    try:
        with _archive(target) if archive else _folder(target) as out:
            layers = _layers(image, out, sources, progress)
            return _documents(image, out, layers, platform, names)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}", hint="free some space there") from error


class _Output(Protocol):
    def put(self, path: str, size: int, blocks: Iterator[bytes]) -> None:
        """Write one file."""


def _layers(image: ComposedImage, out: _Output, sources: Sources, progress: Progress) -> list[Descriptor]:
    ours = [*sources.local_base, *image.layers]
    if not image.base_layers and len(sources.local_base) != len(image.base_diff_ids):
        raise RegistryError(
            "the base's layers are in no registry, and they are not at hand",
            hint="build through the engine that has it",
        )
    done: set[str] = set()
    total = sum(blob.size for blob in image.base_layers) + sum(layer.size for layer in ours)
    with progress.task("Writing the image", total=total, unit="B") as task:
        for blob in image.base_layers:
            if blob.digest not in done:
                done.add(blob.digest)
                with closing(sources.open_blob(blob)) as stream:
                    out.put(oci.blob_path(blob.digest), blob.size, checked(blob, stream))
            task.advance(blob.size)
        found = list(image.base_layers)
        for layer in ours:
            task.note(layer.title)
            with sources.packed.packed(layer, sources.open_layer) as (blob, file):
                if blob.digest not in done:
                    done.add(blob.digest)
                    out.put(oci.blob_path(blob.digest), blob.size, _blocks(file))
            found.append(blob)
            task.advance(layer.size)
    return found


def _documents(
    image: ComposedImage, out: _Output, layers: Sequence[Descriptor], platform: str, names: Sequence[str]
) -> str:
    config = oci.described(oci.CONFIG, image.config)
    content = oci.manifest(config, layers)
    manifest = oci.described(oci.MANIFEST, content)
    for path, text in (
        (oci.blob_path(config.digest), image.config),
        (oci.blob_path(manifest.digest), content),
        ("manifest.json", oci.docker_manifest(config, layers, names=names)),
        ("index.json", oci.index(manifest, platform=platform, names=names)),
        (oci.LAYOUT_FILE, oci.LAYOUT),
    ):
        out.put(path, len(text), iter([text]))
    return manifest.digest


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def check(target: Path, *, archive: bool) -> None:
    """Raise ``UsageError`` for a place that holds something else, ``StorageError`` for one that cannot be seen."""
    place = Path(os.path.abspath(target))  # noqa: PTH100 - links stay links
    if place == Path.cwd() or place in Path.cwd().parents:
        raise UsageError(f"{target} is the folder that you are in, or holds it", hint="choose another folder")
    try:
        if archive and place.is_dir():
            raise UsageError(
                f"{target} is a folder, and the archive is one file", hint="give it a name that ends in .tar"
            )
        if not archive and place.exists() and (not place.is_dir() or not _is_layout(place)):
            raise UsageError(f"{target} is there already, and is no image layout", hint="choose another folder")
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error


def _is_layout(folder: Path) -> bool:
    return (folder / oci.LAYOUT_FILE).is_file() or not any(folder.iterdir())


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: str, size: int, blocks: Iterator[bytes]) -> None:  # noqa: ARG002 - a tar wants the size
        place = self._root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            for block in blocks:
                file.write(block)


class _Archive:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def put(self, path: str, size: int, blocks: Iterator[bytes]) -> None:
        self._file.write(header(path, size))
        for block in blocks:
            self._file.write(block)
        self._file.write(padding(size))


@contextmanager
def _folder(target: Path) -> Iterator[_Output]:
    making = _making(target)
    made, old = making / "new", making / "old"
    with claimed(making.with_suffix(".claim")):
        shutil.rmtree(making, ignore_errors=True)  # of a process that was killed
        try:
            made.mkdir(parents=True)
            yield _Folder(made)
            if target.exists():
                target.replace(old)
            made.replace(target)
        finally:
            shutil.rmtree(making, ignore_errors=True)


@contextmanager
def _archive(target: Path) -> Iterator[_Output]:
    making = _making(target)
    with claimed(making) as file:
        yield _Archive(file)
        file.write(bytes(2 * tarfile.BLOCKSIZE))
        file.flush()
        making.chmod(0o666 & ~_umask())
        making.replace(target)


def _making(target: Path) -> Path:
    """Return where the image is under construction: always the same place, for whoever comes after a killed process."""
    name = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()
    return target.with_name(f".envlock-{name[:16]}.making")


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
