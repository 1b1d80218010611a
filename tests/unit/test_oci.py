"""The documents of an image, compression that is the same everywhere, and the archive that engines load."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.errors import DamagedLayer, HashMismatch, InputError, RegistryError
from envlock.formats import oci
from envlock.formats.gzip_members import compress, is_pinned
from envlock.formats.oci_archive import archive, checked, loadable
from envlock.formats.streams import IteratorStream
from envlock.model.lock import Descriptor
from tests.support.composing import Layers, base_in_registry, image_of, noise

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


class Dripping(io.BytesIO):
    """Gives a few bytes at a time, as a socket does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 70_001) if size and size > 0 else 70_001)


def packed(content: bytes, source: type[io.BytesIO] = io.BytesIO) -> tuple[bytes, object]:
    out = io.BytesIO()
    made = compress(source(content), out.write)
    return out.getvalue(), made


def test_chain_ids_are_those_of_the_specification() -> None:
    second = oci.digest_of(f"{A} {B}".encode())
    assert oci.chain_ids([A, B, C]) == (A, second, oci.digest_of(f"{second} {C}".encode()))
    assert oci.chain_ids([]) == ()


def test_a_manifest_is_canonical() -> None:
    config = Descriptor(media_type=oci.CONFIG, digest=A, size=3)
    layer = Descriptor(media_type=oci.LAYER_GZIP, digest=B, size=4)
    assert oci.manifest(config, [layer]) == (
        b'{"config":{"digest":"' + A.encode() + b'","mediaType":"application/vnd.oci.image.config.v1+json","size":3},'
        b'"layers":[{"digest":"'
        + B.encode()
        + b'","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":4}],'
        b'"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}'
    )


def test_an_index_names_the_platform_and_each_reference() -> None:
    image = Descriptor(media_type=oci.MANIFEST, digest=A, size=3)
    found = json.loads(oci.index(image, platform="linux/arm64/v8", names=["example.org/a:1", "demo:2"]))
    assert [entry["annotations"]["io.containerd.image.name"] for entry in found["manifests"]] == [
        "example.org/a:1",
        "docker.io/library/demo:2",
    ]
    assert found["manifests"][0]["platform"] == {"os": "linux", "architecture": "arm64", "variant": "v8"}
    assert "annotations" not in json.loads(oci.index(image, platform="linux/amd64"))["manifests"][0]


def test_base_layers_get_one_kind_of_name_or_are_refused() -> None:
    docker = Descriptor(media_type="application/vnd.docker.image.rootfs.diff.tar.gzip", digest=A, size=1)
    assert oci.as_oci(docker) == replace(docker, media_type=oci.LAYER_GZIP)
    with pytest.raises(RegistryError, match="cannot be passed on"):
        oci.as_oci(replace(docker, media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"))


@pytest.mark.parametrize("digest", ["sha256:ab", "md5:" + "a" * 64, "sha256:../../etc/passwd", "sha256:" + "A" * 64])
def test_a_digest_that_is_none_never_becomes_a_path(digest: str) -> None:
    with pytest.raises(InputError):
        oci.blob_path(digest)


def test_compression_gives_the_known_bytes() -> None:
    # These bytes must never change: manifest digests of what was pushed years ago are to come out again.
    content = noise(1 << 20, "a") + b"text " * 300_000 + bytes(1 << 20)
    found, made = packed(content)
    assert is_pinned()
    assert hashlib.sha256(found).hexdigest() == "bde17c504cde71b15c844139669d3535d8ea8f77bd9195b0086ef5b3b424574b"
    assert gzip.decompress(found) == content
    assert made.blob == Descriptor(media_type=oci.LAYER_GZIP, digest=oci.digest_of(found), size=len(found))
    assert (made.diff_id, made.size) == (oci.digest_of(content), len(content))


def test_compression_is_the_same_however_the_stream_gives_its_bytes() -> None:
    content = noise(3_000_000, "b") + b"x" * 1_500_000
    assert packed(content) == packed(content, Dripping)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 600))
def test_whatever_goes_in_comes_out(content: bytes, times: int) -> None:
    found, _ = packed(content * times)
    assert gzip.decompress(found) == content * times
    assert found[4:10] == b"\0\0\0\0\0\xff"  # no time, no system


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=20))
def test_a_stream_of_blocks_reads_like_a_file(content: bytes, sizes: list[int]) -> None:
    def blocks():
        rest = content
        for size in [*sizes, max(1, len(content))]:
            yield rest[:size]
            rest = rest[size:]

    stream, plain = IteratorStream(blocks()), io.BytesIO(content)
    for size in (7, 0, 1, 100):
        assert stream.read(size) == plain.read(size)
    assert stream.read() == plain.read()
    assert stream.read(5) == b""


def entries(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as found:
        return {member.name: found.extractfile(member).read() for member in found}


def test_an_archive_holds_both_indexes_and_only_what_is_wanted() -> None:
    store, base = Layers(), base_in_registry()
    layers = [store.noise("one"), store.noise("two"), store.noise("three")]
    image = loadable(image_of(base, layers), platform="linux/amd64")
    content = b"".join(archive(image, names=["demo:v1"], without=[layers[1].diff_id], open_layer=store.open))
    found = entries(content)
    assert store.opened == ["one", "three"]
    assert {oci.blob_path(layer.diff_id) in found for layer in (layers[0], layers[2])} == {True}
    assert oci.blob_path(layers[1].diff_id) not in found
    assert oci.blob_path(base.descriptor.digest) not in found
    index, manifest = json.loads(found["index.json"]), json.loads(found["manifest.json"])
    assert index["manifests"][0]["digest"] == image.digest == oci.digest_of(found[oci.blob_path(image.digest)])
    assert manifest[0]["RepoTags"] == ["demo:v1"]
    assert manifest[0]["Layers"] == [oci.blob_path(layer.digest) for layer in image.layers]
    assert oci.digest_of(found[manifest[0]["Config"]]) == image.image.image_id
    assert content == b"".join(archive(image, names=["demo:v1"], without=[layers[1].diff_id], open_layer=store.open))


def test_an_archive_can_bring_the_base_and_a_layer_that_is_there_twice_once() -> None:
    store, base = Layers(), base_in_registry()
    layer = store.noise("one")
    image = loadable(image_of(base, [layer, layer]), platform="linux/amd64")
    content = b"".join(archive(image, open_layer=store.open, open_blob=lambda _: io.BytesIO(base.layer)))
    assert entries(content)[oci.blob_path(base.descriptor.digest)] == base.layer
    assert store.opened == ["one"]
    with pytest.raises(HashMismatch, match="a layer of the base"):
        list(archive(image, open_layer=store.open, open_blob=lambda _: io.BytesIO(base.layer[:-1] + b"?")))


@pytest.mark.parametrize("spoil", [lambda tar: tar[:-1] + b"?", lambda tar: tar[:-1], lambda tar: tar + b"?"])
def test_a_layer_that_changed_on_disk_is_noticed_before_its_end(spoil) -> None:
    store, base = Layers(), base_in_registry()
    layer = store.noise("torch 2.1.2", 3 << 20)
    image = loadable(image_of(base, [layer]), platform="linux/amd64")
    whole = sum(map(len, archive(image, open_layer=store.open)))
    store.content[layer.key] = spoil(store.content[layer.key])
    sent: list[int] = []
    with pytest.raises(DamagedLayer, match="torch") as caught:
        sent.extend(len(block) for block in archive(image, open_layer=store.open))
    assert caught.value.key == layer.key
    assert sum(sent) < whole - 1024


def test_blocks_of_a_blob_are_small_and_an_endless_one_is_cut() -> None:
    blob = Descriptor(media_type=oci.LAYER_TAR, digest=A, size=10)
    with pytest.raises(HashMismatch, match="too many"):
        list(checked(blob, io.BytesIO(b"x" * 1000)))
    content = noise(5 << 20, "c")
    sizes = [len(block) for block in checked(oci.described(oci.LAYER_TAR, content), io.BytesIO(content))]
    assert max(sizes) <= 1 << 20
    assert sum(sizes) == len(content)
