"""Reading a base's layers from a registry that has bad moments, and from mirrors."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from envlock.errors import HashMismatch, RegistryError, UnknownImage
from envlock.formats import oci
from envlock.model.lock import Descriptor
from tests.support.blob_registry import BlobRegistry, blob_registry
from tests.support.composing import noise
from tests.support.pushing import blobs_of, dropped, once, registry_with_base


@pytest.fixture
def registry() -> Iterator[BlobRegistry]:
    with registry_with_base() as found:
        yield found


def big(registry: BlobRegistry) -> tuple[bytes, Descriptor]:
    content = noise(2_000_000, "big")
    return content, Descriptor(
        media_type=oci.LAYER_GZIP, digest=registry.add("envlock/base", content), size=len(content)
    )


def read(registry: BlobRegistry, folder: Path, blob: Descriptor, **more) -> bytes:
    with blobs_of(folder, **more).opened(f"{registry.host}/envlock/base", blob) as stream:
        return stream.read()


def cut_after(size: int):
    def act(handler) -> None:
        digest = handler.parts.path.rpartition("/")[2]
        content = handler.world.blobs["envlock/base", digest]
        begin = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        handler.wfile.write(content[begin : begin + size])
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_WR)
        handler.close_connection = True

    return act


def test_a_download_goes_on_where_it_broke_off(registry, tmp_path) -> None:
    content, blob = big(registry)
    asked: list[str | None] = []
    once(registry, "GET", 5, lambda handler: (asked.append(handler.headers.get("Range")), cut_after(300_000)(handler)))
    assert read(registry, tmp_path, blob) == content
    assert asked[0] is None
    assert all(value for value in asked[1:])


def test_a_registry_that_knows_no_ranges(registry, tmp_path) -> None:
    content, blob = big(registry)
    calls = []

    def act(handler) -> bool:
        calls.append(1)
        if len(calls) == 1:
            cut_after(700_000)(handler)
            return True
        del handler.headers["Range"]
        return False

    registry.fault = act
    assert read(registry, tmp_path, blob) == content


@pytest.mark.parametrize("act", [lambda handler: handler.answer(500), lambda handler: handler.answer(429), dropped])
def test_reading_waits_for_better_times_and_not_for_ever(registry, tmp_path, act) -> None:
    content, blob = big(registry)
    once(registry, "GET", 3, act)
    assert read(registry, tmp_path, blob) == content
    once(registry, "GET", 10**6, act)
    with pytest.raises(RegistryError):
        read(registry, tmp_path, blob)


def test_wrong_bytes_are_never_given_whole(registry, tmp_path) -> None:
    content, blob = big(registry)
    registry.blobs["envlock/base", blob.digest] = content[:-1] + b"?"
    got: list[bytes] = []
    stream = blobs_of(tmp_path).open(f"{registry.host}/envlock/base", blob)
    with pytest.raises(HashMismatch, match="wrong bytes"):
        got.extend(iter(lambda: stream.read(65536), b""))
    stream.close()
    assert len(b"".join(got)) < len(content)
    registry.blobs["envlock/base", blob.digest] = content + b"?"
    with pytest.raises(HashMismatch, match="more than"):
        read(registry, tmp_path, blob)
    del registry.blobs["envlock/base", blob.digest]
    with pytest.raises(UnknownImage):
        read(registry, tmp_path, blob)


def test_mirrors_first_and_what_they_lack_from_the_registry(registry, tmp_path, monkeypatch) -> None:
    content, blob = big(registry)
    monkeypatch.setattr("envlock.adapters.registry.client._addresses", lambda _: [f"http://{registry.host}"])
    registry.blobs["library/base", blob.digest] = content

    def from_hub(mirror: BlobRegistry) -> bytes:
        blobs = blobs_of(tmp_path, mirrors=lambda: [f"http://{mirror.host}"])
        with blobs.opened("base", blob) as stream:
            return stream.read()

    with blob_registry() as mirror:
        mirror.blobs["library/base", blob.digest] = content
        assert from_hub(mirror) == content
        assert registry.count("GET") == 0
        mirror.blobs.clear()
        assert from_hub(mirror) == content
        assert registry.count("GET") == 1
