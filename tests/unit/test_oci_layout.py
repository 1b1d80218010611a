"""OCI layouts on disk, and what is remembered of compressed layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from envlock.adapters.oci_layout import Sources, write_layout
from envlock.adapters.packed_layers import PackedLayers
from envlock.errors import HashMismatch, StorageError, UsageError
from envlock.formats import oci
from tests.support.blob_registry import BlobRegistry
from tests.support.composing import Layers, image_of
from tests.support.progress import Remembering
from tests.support.pushing import BASE, blobs_of, push, registry_with_base


@pytest.fixture
def registry() -> Iterator[BlobRegistry]:
    with registry_with_base() as found:
        yield found


@pytest.fixture
def store() -> Layers:
    return Layers()


def layout(registry, folder, store, image, target: Path, **more) -> str:
    blobs = blobs_of(folder)
    sources = Sources(
        packed=PackedLayers(folder / "packed"),
        open_layer=store.open,
        open_blob=lambda blob: blobs.open(f"{registry.host}/envlock/base", blob),
    )
    return write_layout(image, target, platform="linux/amd64", sources=sources, progress=Remembering(), **more)


def test_a_layout_has_the_digest_of_the_push_and_every_blob(registry, store, tmp_path) -> None:
    image = image_of(BASE, [store.noise("one"), store.noise("two")])
    digest = layout(registry, tmp_path, store, image, tmp_path / "out", names=["demo:v1"], archive=False)
    assert digest == push(registry, tmp_path, store, image).digest
    for path in (tmp_path / "out/blobs/sha256").iterdir():
        assert oci.digest_of(path.read_bytes()) == f"sha256:{path.name}"
    assert len(list((tmp_path / "out/blobs/sha256").iterdir())) == 5
    assert layout(registry, tmp_path, store, image, tmp_path / "out", names=["demo:v1"], archive=False) == digest
    one, two = tmp_path / "a.tar", tmp_path / "b.tar"
    for target in (one, two):
        assert layout(registry, tmp_path, store, image, target, archive=True) == digest
    assert one.read_bytes() == two.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar", "out", "packed"]


def test_a_layout_that_fails_leaves_what_was_there(registry, store, tmp_path, monkeypatch) -> None:
    image = image_of(BASE, [store.noise("one")])
    registry.blobs["envlock/base", BASE.descriptor.digest] = BASE.layer[:-1] + b"?"
    for target, archive in ((tmp_path / "a.tar", True), (tmp_path / "out", False)):
        with pytest.raises(HashMismatch):
            layout(registry, tmp_path, store, image, target, archive=archive)
    assert [path.name for path in tmp_path.iterdir()] == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="no image layout"):
        layout(registry, tmp_path, store, image, tmp_path / "out", archive=False)
    with pytest.raises(UsageError, match="is a folder"):
        layout(registry, tmp_path, store, image, tmp_path / "out", archive=True)
    assert (tmp_path / "out/mine.txt").read_text() == "keep me"
    monkeypatch.chdir(tmp_path)
    for target in (Path(), tmp_path, Path("/")):
        with pytest.raises(UsageError, match="the folder that you are in"):
            layout(registry, tmp_path, store, image, target, archive=False)
    with pytest.raises(StorageError, match="too long"):
        layout(registry, tmp_path, store, image, tmp_path / ("x" * 300), archive=False)


def test_what_is_remembered_of_a_layer_may_be_spoilt(tmp_path, store) -> None:
    layer, packed = store.noise("one"), PackedLayers(tmp_path)
    assert packed.known(layer) is None
    with packed.packed(layer, store.open) as (blob, file):
        assert oci.digest_of(file.read()) == blob.digest
    assert packed.known(layer) == blob
    (path,) = (path for path in tmp_path.rglob("*.json"))
    for text in ("", "[]", "{}", '{"digest": "x", "size": 1}', '{"digest": 7, "size": "a"}', "\xff"):
        path.write_bytes(text.encode("latin-1"))
        assert packed.known(layer) is None
