"""Pushing without an engine, to a registry that has bad moments."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from envlock.adapters.registry import upload
from envlock.adapters.registry.push import Pushed
from envlock.errors import DamagedLayer, HashMismatch, RegistryError
from envlock.formats import oci
from tests.support.blob_registry import BlobRegistry, blob_registry
from tests.support.composing import Layers, image_of
from tests.support.pushing import BASE, blobs_of, dropped, once, push, registry_with_base


@pytest.fixture
def registry() -> Iterator[BlobRegistry]:
    with registry_with_base() as found:
        yield found


@pytest.fixture
def store() -> Layers:
    return Layers()


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE", 100_000)


def pulled(registry: BlobRegistry, tag: str = "v1") -> dict:
    """Read an image back as whoever pulls it would, and hold everything against its digest."""
    import gzip

    kind, content = registry.manifests["team/demo", tag]
    manifest = json.loads(content)
    assert manifest["mediaType"] == kind == oci.MANIFEST
    config = json.loads(registry.blobs["team/demo", manifest["config"]["digest"]])
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        packed = registry.blobs["team/demo", layer["digest"]]
        assert len(packed) == layer["size"]
        assert oci.digest_of(packed) == layer["digest"]
        assert oci.digest_of(gzip.decompress(packed)) == diff_id
    return {"manifest": oci.digest_of(content), "config": manifest["config"]["digest"]}


def test_a_push_mounts_the_base_and_sends_the_rest(registry, store, tmp_path) -> None:
    image = image_of(BASE, [store.noise("one"), store.noise("two")])
    done = push(registry, tmp_path, store, image, "v1", "latest")
    assert pulled(registry) == pulled(registry, "latest") == {"manifest": done.digest, "config": image.image_id}
    assert done.blobs == 3  # two layers and the configuration
    assert done.sent == registry.received
    assert registry.count("PATCH") > 6


def test_a_second_push_sends_nothing_and_one_changed_layer_that_layer(registry, store, tmp_path) -> None:
    one, two, three = store.noise("one"), store.noise("two"), store.noise("three")
    first = push(registry, tmp_path, store, image_of(BASE, [one, two, three]))
    store.opened.clear()
    registry.received = 0
    assert push(registry, tmp_path, store, image_of(BASE, [one, two, three])) == Pushed(
        digest=first.digest, sent=0, blobs=0
    )
    assert (store.opened, registry.received) == ([], 0)
    done = push(registry, tmp_path, store, image_of(BASE, [one, store.noise("other"), three]))
    assert store.opened == ["other"]
    assert 300_000 < done.sent == registry.received < 300_000 + 8192
    # Another machine has to compress to know the digests, and sends no layer either.
    registry.received = 0
    assert push(registry, tmp_path / "elsewhere", store, image_of(BASE, [one, two, three])).digest == first.digest
    assert registry.received == 0


def test_each_layer_is_asked_for_once(registry, store, tmp_path) -> None:
    layers = [store.noise(f"layer {number}") for number in range(20)]
    push(registry, tmp_path, store, image_of(BASE, layers))
    registry.asked.clear()
    push(registry, tmp_path, store, image_of(BASE, [*layers[:10], store.noise("changed"), *layers[11:]]))
    assert registry.count("HEAD") == 1 + 20 + 1  # the base's layer, and the configuration


def test_a_registry_that_lost_a_layer_gets_it_again(registry, store, tmp_path) -> None:
    image = image_of(BASE, [store.noise("one"), store.noise("two")])
    first = push(registry, tmp_path, store, image)
    lost = max((key for key in registry.blobs if key[0] == "team/demo"), key=lambda key: len(registry.blobs[key]))
    size = len(registry.blobs.pop(lost))
    assert push(registry, tmp_path, store, image) == replace(first, sent=size, blobs=1)
    assert lost in registry.blobs


def test_a_registry_without_mounts_and_a_base_elsewhere(registry, store, tmp_path) -> None:
    registry.mounts = False
    image = image_of(BASE, [store.noise("one")])
    push(registry, tmp_path, store, image)
    assert pulled(registry)
    assert registry.uploads == {}  # what the mount was answered with is given back
    with blob_registry() as other:
        push(other, tmp_path, store, image, base=f"{registry.host}/envlock/base")
        assert pulled(other) == pulled(registry)


def test_a_base_that_is_in_no_registry_is_packed_as_our_own_layers(registry, store, tmp_path) -> None:
    from dataclasses import replace

    local = store.add("base", __import__("gzip").decompress(BASE.layer))
    image = replace(image_of(BASE, [store.noise("one")]), base_layers=())
    push(registry, tmp_path, store, image, base="", local_base=[local])
    assert pulled(registry)["config"] == image.image_id


def half_taken(handler) -> None:
    """Take some of a piece, and hang up: what was taken only the registry knows."""
    name = handler.parts.path.rpartition("/")[2]
    begin = int(handler.headers["Content-Range"].split("-")[0])
    known = handler.world.uploads[name]
    if begin == len(known):
        known += handler.body[: len(handler.body) // 2]
        handler.world.received += len(handler.body) // 2
    handler.drop()


def answered_then_dropped(handler) -> None:
    """Do the work, and hang up before saying so."""
    answer = handler.answer
    handler.answer = lambda *_, **__: None
    handler._upload(*__import__("re").fullmatch(r"/v2/(.+)/blobs/uploads/(.+)", handler.parts.path).groups())
    handler.answer = answer
    handler.drop()


@pytest.mark.parametrize(
    ("method", "times", "act"),
    [
        ("PATCH", 3, dropped),
        ("PATCH", 2, half_taken),
        ("PATCH", 2, answered_then_dropped),
        ("PUT", 1, answered_then_dropped),
        ("PUT", 2, dropped),
        ("POST", 2, dropped),
        ("HEAD", 2, dropped),
        ("PATCH", 2, lambda handler: handler.answer(500)),
        ("PATCH", 2, lambda handler: handler.answer(429, {"Retry-After": "7"})),
        ("PUT", 2, lambda handler: handler.answer(503)),
        ("POST", 2, lambda handler: handler.answer(502)),
        ("PATCH", 1, lambda handler: (handler.world.uploads.clear(), handler.answer(404))),
        ("PATCH", 1, lambda handler: handler.answer(416)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_bad_moment_passes(registry, store, tmp_path, method, times, act) -> None:  # noqa: PLR0917
    pauses: list[float] = []
    image = image_of(BASE, [store.noise("one", 350_000)])
    once(registry, method, times, act)
    done = push(registry, tmp_path, store, image, pauses=pauses)
    assert pulled(registry) == {"manifest": done.digest, "config": image.image_id}


def test_a_finished_upload_is_not_sent_again(registry, store, tmp_path) -> None:
    """The registry put the layer in its place, and its answer got lost: then it knows the upload no more."""
    image = image_of(BASE, [store.noise("one", 350_000)])
    once(registry, "PUT", 1, answered_then_dropped)
    done = push(registry, tmp_path, store, image)
    assert registry.received == done.sent


def test_a_registry_whose_ranges_stay_where_they_were(registry, store, tmp_path) -> None:
    image = image_of(BASE, [store.noise("one", 350_000)])

    def stuck(handler) -> bool:
        if handler.command == "PATCH":
            answer = handler.answer
            handler.answer = lambda status, headers=None, **more: answer(
                status, {**(headers or {}), "Range": "0-99999"}, **more
            )
        return False

    registry.fault = stuck
    done = push(registry, tmp_path, store, image)
    assert pulled(registry)["manifest"] == done.digest
    assert registry.received == done.sent


def test_a_registry_may_want_larger_pieces(registry, store, tmp_path) -> None:
    seen: list[int] = []

    def wants(handler) -> bool:
        if handler.command == "POST":
            answer = handler.answer
            handler.answer = lambda status, headers=None, **more: answer(
                status, {**(headers or {}), "OCI-Chunk-Min-Length": "200000"}, **more
            )
        elif handler.command == "PATCH":
            seen.append(len(handler.body))
        return False

    registry.fault = wants
    push(registry, tmp_path, store, image_of(BASE, [store.noise("one", 350_000)]))
    assert max(seen) == 200_000


def test_a_push_that_fails_ends_the_other_uploads(registry, store, tmp_path) -> None:
    layers = [store.noise("one", 100_000), store.noise("two", 3_000_000), store.noise("three", 3_000_000)]
    store.content[layers[0].key] += b"?"

    def slow(handler) -> bool:
        if handler.command == "PATCH":
            time.sleep(0.05)
        return False

    registry.fault = slow
    with pytest.raises(DamagedLayer):
        push(registry, tmp_path, store, image_of(BASE, layers))
    assert registry.received < 3_000_000


def test_a_registry_says_how_long_to_wait(registry, store, tmp_path) -> None:
    pauses: list[float] = []
    once(registry, "PATCH", 1, lambda handler: handler.answer(429, {"Retry-After": "7"}))
    push(registry, tmp_path, store, image_of(BASE, [store.noise("one")]), pauses=pauses)
    assert 7 in pauses


def test_what_does_not_pass_is_an_error_in_words(registry, store, tmp_path) -> None:
    image = image_of(BASE, [store.noise("one")])
    once(registry, "PATCH", 10**6, lambda handler: handler.answer(503))
    with pytest.raises(RegistryError, match="503"):
        push(registry, tmp_path, store, image)
    once(registry, "PATCH", 10**6, dropped)
    with pytest.raises(RegistryError, match="cannot be reached"):
        push(registry, tmp_path, store, image)
    once(registry, "POST", 10**6, lambda handler: handler.answer(403))
    with pytest.raises(RegistryError, match="does not let us write to team/demo") as caught:
        push(registry, tmp_path, store, image)
    assert f"docker login {registry.host}" in caught.value.hint
    once(
        registry,
        "PUT",
        10**6,
        lambda handler: handler.answer(400, body=b'{"errors": [{"code": "NAME_INVALID", "message": "bad"}]}'),
    )
    with pytest.raises(RegistryError, match="NAME_INVALID bad"):
        push(registry, tmp_path, store, image)
    assert not registry.manifests


def test_nobody_there(store, tmp_path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RegistryError, match="cannot be reached"):
        push(BlobRegistry(host=host), tmp_path, store, image_of(BASE, [store.noise("one")]))


def test_bytes_that_change_on_the_way(registry, store, tmp_path) -> None:
    def spoil(handler) -> bool:
        handler.body = b"?" + handler.body[1:] if handler.command == "PATCH" else handler.body
        return False

    registry.fault = spoil
    with pytest.raises(HashMismatch, match="other bytes"):
        push(registry, tmp_path, store, image_of(BASE, [store.noise("one")]))

    def other_digest(handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        handler.answer(201, {"Docker-Content-Digest": "sha256:" + "0" * 64})
        return True

    registry.fault = other_digest
    with pytest.raises(RegistryError, match="another digest"):
        push(registry, tmp_path, store, image_of(BASE, [store.noise("one")]))


def test_a_layer_that_changed_in_the_store_is_not_pushed(registry, store, tmp_path) -> None:
    layer = store.noise("one")
    store.content[layer.key] += b"?"
    with pytest.raises(DamagedLayer) as caught:
        push(registry, tmp_path, store, image_of(BASE, [layer]))
    assert caught.value.key == layer.key
    assert not registry.manifests


def test_tokens_are_asked_for_with_the_scope_of_the_base(registry, store, tmp_path) -> None:
    registry.token = "let-me-in"
    push(registry, tmp_path, store, image_of(BASE, [store.noise("one")]))
    # Once, and for all layers.
    assert registry.scopes == [["repository:x:pull,push", "repository:envlock/base:pull"]]


def test_an_upload_on_another_host_gets_no_credentials(registry, store, tmp_path) -> None:
    registry.token = "let-me-in"
    seen: list[str | None] = []
    with blob_registry() as elsewhere:

        def away(handler) -> bool:
            if handler.command != "POST" or "mount" in handler.query:
                return False
            name = f"u{len(seen)}-{len(handler.world.asked)}"
            elsewhere.uploads[name] = bytearray()
            handler.answer(202, {"Location": f"http://{elsewhere.host}/v2/team/demo/blobs/uploads/{name}?s=1"})
            return True

        def note(handler) -> bool:
            seen.append(handler.headers.get("Authorization"))
            return False

        registry.fault, elsewhere.fault = away, note
        registry.strict = lambda *_: True  # what elsewhere has
        push(registry, tmp_path, store, image_of(BASE, [store.noise("one", 50_000)]))
        assert elsewhere.received > 50_000
    assert seen
    assert set(seen) == {None}


def test_an_upload_is_the_same_registrys_however_its_address_is_written(registry, store, tmp_path) -> None:
    registry.token = "let-me-in"
    port = registry.host.rpartition(":")[2]

    def other_spelling(handler) -> bool:
        answer = handler.answer

        def said(status, headers=None, **more):
            found = dict(headers or {})
            if found.get("Location", "").startswith("/"):
                found["Location"] = f"HTTP://127.0.0.1:0{port}{found['Location']}"
            answer(status, found, **more)

        handler.answer = said
        return False

    registry.fault = other_spelling
    push(registry, tmp_path, store, image_of(BASE, [store.noise("one")]))
    assert registry.manifests


def test_a_login_of_netrc_does_not_follow_a_redirect(registry, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter22\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen: list[str | None] = []
    with blob_registry() as elsewhere:
        elsewhere.add("envlock/base", BASE.layer)

        def away(handler) -> bool:
            handler.answer(307, {"Location": f"http://localhost:{elsewhere.host.rpartition(':')[2]}{handler.path}"})
            return True

        def note(handler) -> bool:
            seen.append(handler.headers.get("Authorization"))
            return False

        registry.fault, elsewhere.fault = away, note
        with blobs_of(tmp_path).opened(f"{registry.host}/envlock/base", BASE.descriptor) as stream:
            assert stream.read() == BASE.layer
    assert seen == [None]
