"""Images that real engines are sent a part of before their last layers are made."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envlock.errors import InputError
from envlock.formats.oci_archive import Loadable
from envlock.model.layers import StoredLayer
from envlock.ports import Loaded, Supplies
from tests.support.composing import Layers
from tests.support.loading import World, composed_world
from tests.support.progress import Remembering

# the other generations and kinds of image store (.ci/engine second up, third up) where they are asked for
ENGINES = ["first", *os.environ.get("ENVLOCK_TEST_ENGINES", "").split()]

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from composed_world(request.param, tmp_path_factory.mktemp("packed"))


@pytest.fixture
def store() -> Layers:
    return Layers()


def early(
    world: World, store: Layers, like: Loadable, above: list[StoredLayer], image: Callable[[], Loadable]
) -> Loaded:
    pull = lambda: world.engine.pull(world.plan.base.pinned, platform="linux/amd64", progress=Remembering())  # noqa: E731
    supplies = Supplies(open_layer=store.open, pull_base=pull)
    return world.engine.load_early(image, supplies, like=like, above=above, progress=Remembering())


def test_what_lies_above_goes_before_the_image_is_known(world: World, store: Layers) -> None:
    name = os.urandom(4).hex()
    one, two, three, four = (store.noise(f"{part} {name}") for part in ("one", "two", "three", "four"))
    world.load(world.image(one, two, three, four), store)
    store.opened.clear()

    changed = store.noise(f"two again {name}")
    image = world.image(one, changed, three, four)
    known = threading.Event()

    def when_known() -> Loadable:
        assert known.wait(60)
        return image

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(early, world, store, world.image(one), [three, four], when_known)
        if not world.per_blob:
            while store.opened != [three.title, four.title]:
                assert not coming.done()
        known.set()
        loaded = coming.result(60)
    assert loaded.id == (image.digest if world.per_blob else image.image.image_id)
    assert world.engine.find(loaded.id).diff_ids == image.image.diff_ids
    # The engine with the containerd store has the blobs of those above already.
    assert store.opened == ([changed.title] if world.per_blob else [three.title, four.title, changed.title])
    assert loaded.layers == len(store.opened)
    script = "cat /data/* | sha256sum"
    run = ("run", "--rm", "--network", "none", "--user", "0", "--workdir", "/")
    assert world.docker(*run, loaded.id, "sh", "-c", script)


def test_an_image_that_never_comes_leaves_nothing(world: World, store: Layers) -> None:
    name = os.urandom(4).hex()
    one, two = store.noise(f"one {name}"), store.noise(f"two {name}", 4 << 20)
    before = set(world.docker("images", "-aq", "--no-trunc").split())

    def never() -> Loadable:
        raise InputError("a bad wheel")

    with pytest.raises(InputError, match="a bad wheel"):
        early(world, store, world.image(one), [two], never)
    assert set(world.docker("images", "-aq", "--no-trunc").split()) <= before
    # and nothing is in the engine's way
    assert world.load(world.image(one, two), store).layers == 2


def test_what_goes_away_in_the_meantime_is_sent_after_all(world: World, store: Layers, tmp_path: Path) -> None:
    name = os.urandom(4).hex()
    one, two, three = (store.noise(f"{part} {name}") for part in ("one", "two", "three"))
    below = world.load(world.image(one), store)
    image = world.image(one, two, three)

    def removed() -> Loadable:
        world.docker("rmi", "--force", below.id)
        return image

    loaded = early(world, store, world.image(one), [three], removed)
    assert world.engine.find(loaded.id).diff_ids == image.image.diff_ids
