"""Layers shared through a real registry: what one machine made, another one only fetches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry.layer_offers import LayerOffers, Offered
from envlock.adapters.registry.push import Blobs
from envlock.adapters.registry.shared_layers import SharedLayers
from envlock.formats import oci
from envlock.formats.layer_artifact import LAYER, layer_tag
from envlock.layers.make import LayerMaker
from envlock.layers.remote import CarefulRemote
from envlock.layers.store import LayerStore
from envlock.layers.target import Target
from tests.support.layers import HERE, HereCompiler, saved
from tests.support.loading import BASE, REGISTRY, World, composed_world
from tests.support.packages import wheel
from tests.support.progress import Remembering

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from composed_world("first", tmp_path_factory.mktemp("packed"))


@pytest.fixture
def place() -> str:
    return f"{REGISTRY}/envlock-test/shared-{os.urandom(6).hex()}"


class NoCompiler:
    def compile(self, _):
        pytest.fail("the second machine compiled something")


def no_fetch(_):
    pytest.fail("the second machine fetched something")


def test_a_second_machine_makes_nothing(world: World, place: str, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    wheels, paths = saved(
        [
            *(wheel(f"small{number}", files={f"s{number}.py": f"A = {number}\n"}) for number in range(20)),
            wheel("large", files={"large.bin": content, "large.py": "L = 1\n"}),
        ],
        tmp_path / "wheels",
    )
    target, packed = Target(python=HERE), [PackedLayers(tmp_path / name / "packed") for name in ("one", "two")]
    one = LayerStore(tmp_path / "one")
    maker = LayerMaker(one, HereCompiler(), target)
    layers = maker.make(wheels, fetch=lambda _: paths)
    offers = LayerOffers(place, os.environ, packed=packed[0])
    done = offers.offer(layers, maker.notes(wheels), open_layer=one.open, progress=Remembering())
    assert (done.layers, done.notes) == (2, 22)
    assert done.sent > 3 << 20
    again = offers.offer(layers, maker.notes(wheels), open_layer=one.open, progress=Remembering())
    assert again == Offered(layers=0, notes=0, sent=0)

    told: list[str] = []
    with SharedLayers(place, os.environ, packed=packed[1]) as shared:
        two = LayerStore(tmp_path / "two", remote=CarefulRemote(shared, warn=told.append))
        assert LayerMaker(two, NoCompiler(), target).make(wheels, fetch=no_fetch) == layers
    assert told == []
    for layer in layers:
        assert two.layers.path(layer.key).read_bytes() == one.layers.path(layer.key).read_bytes()

    image = world.image(*layers).image
    name = f"{REGISTRY}/envlock-test/shared-image:{os.urandom(4).hex()}"
    pushed = Blobs(os.environ, packed=packed[1]).push(
        image, [name], base=BASE, open_layer=no_fetch, shared=place, progress=Remembering()
    )
    assert pushed.blobs == 1  # the configuration: layers are mounted
    try:
        pulled = world.engine.pull(name, platform="linux/amd64", progress=Remembering())
        assert pulled.diff_ids == image.diff_ids
    finally:
        world.engine.remove(name)


def test_what_the_registry_keeps(place: str, tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    with store.layers.making("ab" * 32) as making:
        making.file.write(b"tar")
        layer = making.keep(diff_id=oci.digest_of(b"tar"), size=3, title="t")
    LayerOffers(place, os.environ, packed=PackedLayers(tmp_path / "packed")).offer(
        [layer], {}, open_layer=store.open, progress=Remembering()
    )
    path = place.removeprefix(f"{REGISTRY}/")
    url = f"http://{REGISTRY}/v2/{path}/manifests/{layer_tag(layer.key)}"
    with urlopen(Request(url, headers={"Accept": oci.MANIFEST})) as answer:
        assert answer.headers["Content-Type"] == oci.MANIFEST
        manifest = json.load(answer)
    assert manifest["artifactType"] == LAYER
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert [one["mediaType"] for one in manifest["layers"]] == [oci.LAYER_GZIP]
