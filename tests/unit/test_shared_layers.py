"""Layers that another machine made: what comes is the same, and whatever the registry does, the build goes on."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry.layer_offers import LayerOffers, Offered
from envlock.adapters.registry.push import Blobs
from envlock.adapters.registry.shared_layers import SharedLayers
from envlock.errors import DamagedLayer, HashMismatch, InputError, RegistryError, UsageError
from envlock.formats import layer_artifact as artifact
from envlock.formats import oci
from envlock.formats.gzip_members import METHOD, compress, decompress
from envlock.layers.make import LayerMaker
from envlock.layers.remote import CarefulRemote
from envlock.layers.store import LayerStore
from envlock.layers.target import Target
from envlock.model.layers import StoredLayer
from envlock.model.lock import Descriptor, Wheel
from tests.support.blob_registry import BlobRegistry, blob_registry
from tests.support.composing import Layers, base_in_registry, image_of
from tests.support.layers import HERE, HereCompiler, saved
from tests.support.packages import wheel
from tests.support.progress import Remembering

TARGET = Target(python=HERE)
PLACE = "team/layers"


@pytest.fixture
def registry() -> Iterator[BlobRegistry]:
    with blob_registry() as found:
        yield found


class Machine:
    """A machine with a store of its own, that knows one registry; ``told`` is what its user was told."""

    def __init__(self, root: Path, registry: BlobRegistry, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.root = root
        self.told: list[str] = []
        self.pauses: list[float] = []
        self.compiler = HereCompiler()
        self.fetched: list[str] = []
        self.packed = PackedLayers(root / "packed")
        self.shared = SharedLayers(
            f"{registry.host}/{PLACE}", {"HOME": str(root)}, packed=self.packed, pause=self.pauses.append, clock=clock
        )
        self.store = LayerStore(root / "store", remote=CarefulRemote(self.shared, warn=self.told.append))
        self.maker = LayerMaker(self.store, self.compiler, TARGET, workers=2)
        self.offers = LayerOffers(
            f"{registry.host}/{PLACE}", {"HOME": str(root)}, packed=self.packed, pause=self.pauses.append
        )

    def make(self, wheels: list[Wheel], paths: dict[str, Path]) -> tuple[StoredLayer, ...]:
        def fetch(wanted: Any) -> dict[str, Path]:
            self.fetched += [one.name for one in wanted]
            return paths

        return self.maker.make(wheels, fetch=fetch)

    def offer(self, layers: tuple[StoredLayer, ...], wheels: list[Wheel]) -> Offered:
        notes = self.maker.notes(wheels)
        return self.offers.offer(layers, notes, open_layer=self.store.open, progress=Remembering())

    @property
    def made_nothing(self) -> bool:
        return self.compiler.paths == self.fetched == []

    def leaves_nothing(self) -> bool:
        return list((self.root / "store" / "making").iterdir()) == []


@pytest.fixture
def machine(tmp_path: Path, registry: BlobRegistry) -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def one(name: str, **more: Any) -> Machine:
        made.append(Machine(tmp_path / name, registry, **more))
        return made[-1]

    yield one
    for each in made:
        each.shared.close()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Wheel], dict[str, Path]]:
    small = [wheel(f"small{number}", files={f"s{number}.py": f"A = {number}\n", "shared.py": "X\n"}) for number in "12"]
    noise = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(80_000))
    large = [wheel(name, files={f"{name}.bin": noise, f"{name}.py": "L = 1\n"}) for name in ("large", "larger")]
    return saved([*small, *large], tmp_path_factory.mktemp("wheels"))


def content(machine: Machine, layers: tuple[StoredLayer, ...]) -> list[bytes]:
    return [machine.store.layers.path(layer.key).read_bytes() for layer in layers]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, wheels: Any) -> tuple[tuple[StoredLayer, ...], BlobRegistry]:
    """Return what one machine made and offered, and the registry that has it."""
    with blob_registry() as source:
        first = Machine(tmp_path_factory.mktemp("maker"), source)
        layers = first.make(*wheels)
        first.offer(layers, wheels[0])
    return layers, source


@pytest.fixture
def layers(registry: BlobRegistry, made: Any) -> tuple[StoredLayer, ...]:
    """Have layers in the registry that another machine made."""
    found, source = made
    registry.blobs |= source.blobs
    registry.manifests |= source.manifests
    return found


def published(machine: Callable[..., Machine], wheels: Any) -> tuple[Machine, tuple[StoredLayer, ...]]:
    first = machine("first")
    layers = first.make(*wheels)
    first.offer(layers, wheels[0])
    return first, layers


def test_what_one_machine_made_another_need_not_make(machine, registry, wheels) -> None:
    first = machine("first")
    layers = first.make(*wheels)
    assert [layer.title for layer in layers] == ["large 1.0", "larger 1.0", "2 packages: small1 … small2"]
    assert first.offer(layers, wheels[0]) == Offered(layers=3, notes=5, sent=registry.received)
    second = machine("second")
    assert second.make(*wheels) == layers
    assert second.made_nothing
    assert second.told == []
    assert content(second, layers) == content(first, layers)
    assert second.leaves_nothing()
    asked = len(registry.asked)
    assert second.make(*wheels) == layers
    assert len(registry.asked) == asked  # it has them itself now


def test_what_is_there_stays_and_is_not_sent_again(machine, registry, wheels) -> None:
    first, layers = published(machine, wheels)
    before, registry.received = dict(registry.manifests), 0
    assert first.offer(layers, wheels[0]) == Offered(layers=0, notes=0, sent=0)
    # A layer that came out otherwise elsewhere, by the same key: the first one stays.
    second = machine("second")
    other = replace(layers[0], diff_id=oci.digest_of(b"other"), size=5)
    done = second.offers.offer([other], {}, open_layer=lambda _: pytest.fail("opened"), progress=Remembering())
    assert (done, registry.manifests, registry.received) == (Offered(layers=0, notes=0, sent=0), before, 0)


def test_somebody_who_is_faster_wins(machine, registry, wheels) -> None:
    first = machine("first")
    (layer, *_) = first.make(*wheels)
    tag = artifact.layer_tag(layer.key)

    def fault(handler: Any) -> bool:
        if handler.command == "PUT" and "/blobs/" in handler.path:
            registry.manifests[PLACE, tag] = (oci.MANIFEST, b"the faster one's")
        return False

    registry.fault = fault
    done = first.offers.offer([layer], {}, open_layer=first.store.open, progress=Remembering())
    assert done.layers == 0
    assert registry.manifests[PLACE, tag][1] == b"the faster one's"


def test_a_changed_pin_costs_a_second_machine_one_wheel(machine, tmp_path, layers, wheels) -> None:
    second = machine("second")
    changed, path = saved([wheel("larger", "2.0", files={"larger.bin": os.urandom(2_200_000)})], tmp_path / "changed")
    second.make([*wheels[0][:3], *changed], path)
    assert set(second.fetched) == {"larger"}
    assert second.told == []


def test_single_layers_are_brought_too(machine, layers, wheels) -> None:
    second = machine("second")
    assert second.store.find(layers[0].key) is None
    assert second.store.find_or_bring(layers[0].key) == layers[0]
    assert second.store.find(layers[0].key) == layers[0]
    assert second.store.find_or_bring("0" * 64) is None
    assert second.told == []
    assert LayerStore(second.root / "store").find_or_bring("0" * 64) is None


def test_a_push_from_the_second_machine_sends_no_layer(machine, registry, layers, wheels) -> None:
    second, base = machine("second"), base_in_registry()
    for blob in (base.layer, base.config):
        registry.add("envlock/base", blob)
    image = image_of(base, second.make(*wheels))
    registry.received = 0
    blobs = Blobs({"HOME": str(second.root)}, packed=second.packed, pause=second.pauses.append)
    pushed = blobs.push(
        image,
        [f"{registry.host}/team/demo:v1"],
        base=f"{registry.host}/envlock/base",
        open_layer=lambda layer: pytest.fail(f"{layer.title} was compressed"),
        shared=f"{registry.host}/{PLACE}",
        progress=Remembering(),
    )
    assert (pushed.blobs, pushed.sent) == (1, registry.received)  # the configuration
    manifest = json.loads(registry.manifests["team/demo", "v1"][1])
    diff_ids = [
        oci.digest_of(gzip.decompress(registry.blobs["team/demo", one["digest"]])) for one in manifest["layers"]
    ]
    assert diff_ids == list(image.diff_ids)


# --- registries that misbehave ----------------------------------------------------------------------------------------


def dropped(handler: Any) -> None:
    handler.drop()


def answered(status: int, body: bytes = b"", **headers: str) -> Callable[[Any], None]:
    return lambda handler: handler.answer(status, {**headers, "Content-Length": str(len(body))}, body)


@pytest.mark.parametrize(
    "act",
    [
        dropped,
        answered(500),
        answered(429, **{"Retry-After": "3"}),
        answered(401),
        answered(403),
        answered(418, b"[]"),
        answered(200, b"\x00" * 100_000),
        answered(401, **{"WWW-Authenticate": 'Bearer realm="http://[nonsense"'}),
        answered(401, **{"WWW-Authenticate": 'Bearer realm="http://example.org/token"'}),
        answered(307, Location="http://[nonsense"),
    ],
    ids=["dropped", "500", "429", "401", "403", "418", "large", "nonsense realm", "open realm", "nonsense place"],
)
@pytest.mark.parametrize("of", ["manifests", "blobs"])
def test_a_registry_that_does_not_work_is_told_of_once(machine, registry, layers, wheels, act, of) -> None:  # noqa: PLR0917
    registry.fault = lambda handler: f"/{of}/" in handler.path and (act(handler), True)[1]
    second = machine("second")
    assert second.make(*wheels) == layers
    assert set(second.fetched) == {one.name for one in wheels[0]}
    assert second.told
    if of == "manifests" or "is refused" not in second.told[0]:
        assert len(second.told) == 1
        assert "gives no layers, they are made here" in second.told[0]
    asked = len(registry.asked)
    second.store.drop(layers[0].key)
    assert second.make(*wheels) == layers
    assert len(registry.asked) == asked or of == "blobs"
    assert second.leaves_nothing()


def test_nobody_there(machine, registry, wheels, tmp_path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        registry.host = f"127.0.0.1:{free.getsockname()[1]}"
    lonely = machine("lonely")
    assert len(lonely.make(*wheels)) == 3
    assert len(lonely.told) == 1
    assert "cannot be reached" in lonely.told[0]
    with pytest.raises(RegistryError, match="cannot be reached"):
        lonely.offer(lonely.make(*wheels), wheels[0])


def test_a_bad_moment_passes(machine, registry, layers, wheels) -> None:
    seen: list[str] = []

    def fault(handler: Any) -> bool:
        with registry.lock:
            seen.append(handler.path)
            if len(seen) % 2 == 0 or seen.count(handler.path) > 1:
                return False
        handler.answer(503)
        return True

    registry.fault = fault
    second = machine("second")
    assert second.make(*wheels) == layers
    assert second.told == []
    assert second.made_nothing
    assert second.pauses


def test_a_line_that_drips_is_given_up(machine, registry, layers, wheels) -> None:
    ticks = iter(range(0, 10**9, 40))  # each look at the clock is 40 seconds later
    second = machine("second", clock=lambda: float(next(ticks)))
    assert second.make(*wheels) == layers
    assert len(second.told) == 1
    assert "too slow" in second.told[0]


def lie(registry: BlobRegistry, tag: str, **said: Any) -> None:
    """Let a manifest say something else; what begins with "blob_" is of its blob, "top_" of the manifest itself."""
    kind, text = registry.manifests[PLACE, tag]
    data = json.loads(text)
    for name, value in said.items():
        place, _, member = name.partition("_")
        where = {"blob": data["layers"][0], "top": data}.get(place, data["annotations"])
        key = member if place in ("blob", "top") else {"diff": artifact._DIFF_ID}.get(name, f"org.envlock.layer.{name}")
        where[artifact._TITLE if name == "title" else artifact._KEY if name == "key" else key] = value
    registry.manifests[PLACE, tag] = (kind, json.dumps(data).encode())


LIES = [
    {"diff": "sha256:" + "0" * 64},
    {"diff": "sha256:../../x"},
    {"diff": None},
    {"size": "1"},
    {"size": "-1"},
    {"size": "1e9"},
    {"size": str(10**14)},
    {"size": 17},
    {"size": "٣"},
    {"title": "a\nb"},
    {"title": "\x1b[31mred"},
    {"title": "x" * 301},
    {"packing": 7},
    {"key": "0" * 64},
    {"blob_digest": "sha256:" + "0" * 64},
    {"blob_digest": "md5:0"},
    {"blob_digest": ["x"]},
    {"blob_size": 10},
    {"blob_size": True},
    {"blob_size": 10**15},
    {"blob_size": 0},
    {"blob_mediaType": "text/plain"},
    {"top_artifactType": "application/x-other"},
    {"top_mediaType": None},
    {"top_layers": []},
    {"top_layers": {"0": 1}},
    {"top_annotations": []},
]


@pytest.mark.parametrize("said", LIES, ids=[str(one)[:40] for one in LIES])
def test_a_lie_is_named_and_the_layer_made_here(machine, registry, layers, wheels, said) -> None:
    lie(registry, artifact.layer_tag(layers[0].key), **said)
    second = machine("second")
    assert second.make(*wheels) == layers
    assert "large" in second.fetched
    assert "larger" not in second.fetched  # the others are as good as ever
    assert len(second.told) == 1
    assert "is refused, and made here" in second.told[0]
    assert "\n" not in second.told[0]
    assert "\x1b" not in second.told[0]
    assert second.packed.known(layers[0]) is None
    assert second.leaves_nothing()


def test_titles_are_not_for_a_registry_to_say(machine, registry, layers, wheels) -> None:
    lie(registry, artifact.layer_tag(layers[0].key), title="something else")
    second = machine("second")
    assert second.make(*wheels) == layers


def swapped(registry: BlobRegistry, layer: StoredLayer, content: bytes, *, honest: bool) -> None:
    """Give a layer another blob; ``honest`` where digest and size are the blob's own."""
    tag = artifact.layer_tag(layer.key)
    blob = json.loads(registry.manifests[PLACE, tag][1])["layers"][0]
    if honest:
        lie(registry, tag, blob_digest=registry.add(PLACE, content), blob_size=len(content))
    else:
        registry.blobs[PLACE, blob["digest"]] = content


@pytest.mark.parametrize(
    "change",
    [
        lambda blob: blob[:-1] + b"?",
        lambda blob: blob[:-9],
        lambda blob: blob + b"more",
        lambda blob: gzip.compress(bytes(50_000_000)),
        lambda blob: gzip.compress(b"something else"),
        lambda blob: b"",
        lambda blob: bytes(len(blob)),
    ],
    ids=["last byte", "shorter", "longer", "bomb", "other", "empty", "zeros"],
)
@pytest.mark.parametrize("honest", [True, False])
def test_other_bytes_are_refused_and_the_layer_made_here(machine, registry, layers, wheels, change, honest) -> None:  # noqa: PLR0917
    tag = artifact.layer_tag(layers[0].key)
    digest = json.loads(registry.manifests[PLACE, tag][1])["layers"][0]["digest"]
    swapped(registry, layers[0], change(registry.blobs[PLACE, digest]), honest=honest)
    second = machine("second")
    assert second.make(*wheels) == layers
    assert "large" in second.fetched
    assert len(second.told) >= 1
    assert content(second, layers[:1]) == [second.store.layers.path(layers[0].key).read_bytes()]
    assert second.packed.known(layers[0]) is None
    assert second.leaves_nothing()


def test_a_registry_of_lies_is_not_asked_for_ever(machine, registry, layers, wheels) -> None:
    second = machine("second")
    tag = artifact.layer_tag(layers[0].key)
    lie(registry, tag, size="1")
    for _ in range(8):
        assert second.store.find_or_bring(layers[0].key) is None
    assert len([one for one in second.told if "is refused" in one]) == 5
    assert second.told[-1].endswith("too much of it is wrong")


NOTES = [
    b"",
    b"null",
    b"{",
    b"[" * 100_000,
    b"[]",
    b'{"small1": 7}',
    b'{"stranger": ["x"]}',
    b'{"small2": [1]}',
    b"\xff",
]


@pytest.mark.parametrize("note", NOTES, ids=[repr(one[:20]) for one in NOTES])
def test_a_note_that_is_none_is_made_here(machine, registry, layers, wheels, note) -> None:
    for tag in [tag for _, tag in registry.manifests if tag.startswith("note-")]:
        lie(registry, tag, blob_digest=registry.add(PLACE, note), blob_size=len(note))
    second = machine("second")
    assert second.make(*wheels) == layers
    assert second.made_nothing is False
    assert second.told or note == b"null"


def test_an_interruption_leaves_nothing(machine, registry, layers, wheels) -> None:
    second, begun = machine("second"), threading.Event()

    def fault(handler: Any) -> bool:
        if "/blobs/" not in handler.path:
            return False
        size = len(registry.blobs[PLACE, handler.parts.path.rpartition("/")[2]])
        if size < 1_000_000:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        handler.wfile.write(b"\x1f\x8b")
        handler.wfile.flush()
        begun.set()
        handler.drop()
        return True

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt  # as if in the pause before another try

    registry.fault = fault
    second.shared._pause = interrupt
    with pytest.raises(KeyboardInterrupt):
        second.make(*wheels)
    assert begun.is_set()
    assert second.leaves_nothing()


def test_offering_goes_through_bad_moments_and_says_what_does_not_pass(machine, registry, wheels) -> None:
    first = machine("first")
    layers = first.make(*wheels)
    seen: list[str] = []

    def flaky(handler: Any) -> bool:
        with registry.lock:
            seen.append(handler.path)
            if handler.command == "GET" or len(seen) % 5:
                return False
        handler.answer(503)
        return True

    busy = answered(429, **{"Retry-After": "1"})
    registry.fault = flaky
    assert first.offer(layers, wheels[0]).layers == 3
    registry.fault = lambda handler: handler.command == "HEAD" and (handler.answer(403), True)[1]
    with pytest.raises(RegistryError, match="does not let us"):
        first.offer(layers, wheels[0])
    registry.fault = lambda handler: handler.command == "PATCH" and (busy(handler), True)[1]
    with pytest.raises(RegistryError, match="429"):
        first.offers.offer(layers, {"0" * 64: {"a": ["new"]}}, open_layer=first.store.open, progress=Remembering())
    registry.fault = lambda _: False
    second = machine("second")
    assert second.make(*wheels) == layers
    assert second.made_nothing


def test_a_layer_that_changed_on_disk_is_not_offered(machine, registry) -> None:
    store, first = Layers(), machine("first")
    layer = store.noise("one")
    store.content[layer.key] += b"?"
    with pytest.raises(DamagedLayer):
        first.offers.offer([layer], {}, open_layer=store.open, progress=Remembering())
    assert not registry.manifests


def test_a_place_is_a_repository(tmp_path) -> None:
    for make in (SharedLayers, LayerOffers):
        for wrong in ("example.org/a:tag", "example.org/a@sha256:" + "0" * 64):
            with pytest.raises(UsageError, match="one image"):
                make(wrong, {}, packed=PackedLayers(tmp_path))
        with pytest.raises(InputError):
            make("not a reference", {}, packed=PackedLayers(tmp_path))


def test_tags_and_manifests() -> None:
    blob = Descriptor(media_type=oci.LAYER_GZIP, digest=oci.digest_of(b"x"), size=1)
    layer = StoredLayer(key="a" * 64, diff_id=oci.digest_of(b"y"), size=2, title="t")
    found = artifact.read_layer(artifact.layer_manifest(layer, blob, packing=METHOD), layer.key)
    assert (found.layer, found.blob, found.packing) == (layer, blob, METHOD)
    assert artifact.read_layer(artifact.layer_manifest(layer, blob, packing="mine"), layer.key).packing == "other"
    assert artifact.layer_tag(layer.key) == "layer-" + "a" * 64
    for wrong in ("../x", "A" * 64, ""):
        with pytest.raises(ValueError, match=r"^" + wrong):
            artifact.note_tag(wrong)


def test_decompressing(tmp_path) -> None:
    tar = bytes(3_000_000) + os.urandom(1_500_000)
    with (tmp_path / "tar").open("wb") as file:
        file.write(tar)
    packed: list[bytes] = []
    with (tmp_path / "tar").open("rb") as file:
        compress(file, packed.append)
    whole = b"".join(packed)
    for size in (1, 100_000, len(whole)) if len(whole) < 10_000 else (99_991, len(whole)):
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        assert b"".join(decompress(pieces, limit=len(tar))) == tar
    with pytest.raises(HashMismatch, match="more than"):
        list(decompress([whole], limit=len(tar) - 1))
    for wrong in (whole[:-1], whole[:100], whole[: len(whole) // 2]):
        with pytest.raises(HashMismatch):
            list(decompress([wrong], limit=len(tar)))
    assert list(decompress([], limit=0)) == []
