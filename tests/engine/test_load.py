"""Composed images in real engines of two generations, on overlay2 and on the containerd image store."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envlock.compose import compose, small_layers
from envlock.errors import DamagedLayer, EngineError, InputError
from envlock.formats.oci_archive import Loadable, loadable
from envlock.model.layers import StoredLayer
from envlock.model.lock import Descriptor
from envlock.model.plan import Plan, Project
from envlock.ports import Coming, Loaded, Supplies
from tests.support.composing import Layers
from tests.support.loading import PROJECT, REGISTRY, World, composed_world
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


def test_the_engine_gets_what_it_lacks_and_the_image_is_ours(world: World, store: Layers, request) -> None:
    name = request.node.name
    one, two, three = (store.noise(f"{part} {name} {os.urandom(4).hex()}") for part in ("one", "two", "three"))
    image = world.image(one, two, three)
    first = world.load(image, store)
    assert first.id == (image.digest if world.per_blob else image.image.image_id)
    assert first.layers == 3
    found = world.engine.find(first.id)
    assert found.diff_ids == image.image.diff_ids
    assert found.tags == ()
    script = "sha256sum /data/* | wc -l; id -u"
    inside = world.docker(
        "run", "--rm", "--network", "none", "--user", "0", "--workdir", "/", first.id, "sh", "-c", script
    )
    assert inside.split() == ["3", "0"]

    store.opened.clear()
    assert world.load(image, store) == Loaded(id=first.id, sent=0, layers=0)
    label = world.load(world.image(one, two, three, project=Project(revision="b" * 40)), store)
    assert (label.layers, label.sent < 32 << 10, store.opened) == (0, True, [])
    top = world.load(world.image(one, two, store.noise(f"three again {name}")), store)
    assert (top.layers, top.sent < 400_000) == (1, True)
    # In the middle: overlay2 knows stacks, so what lies above goes too; the containerd store knows blobs.
    middle = world.load(world.image(one, store.noise(f"two again {name}"), three), store)
    assert middle.layers == (1 if world.per_blob else 2)
    shorter = world.load(world.image(one), store)
    assert shorter.layers == 0

    reference = f"{PROJECT}:{os.urandom(4).hex()}"
    world.engine.tag(first.id, reference)
    assert world.engine.find(reference).id == first.id
    assert world.engine.find(first.id).tags == (reference,)


def test_a_whole_image_runs_as_its_user(world: World, store: Layers, tmp_path: Path) -> None:
    made = small_layers(world.plan, project=tmp_path, files=world.files)
    image = world.image(*(store.small(layer) for layer in made))
    loaded = world.load(image, store)
    script = "id -un; id -u; pwd; touch here && echo written; ls /opt/envlock"
    script += "; stat -c '%a %u' / /etc /home /opt /tmp; echo $HOME"
    out = world.docker("run", "--rm", "--network", "none", loaded.id, "sh", "-c", script).split("\n")
    assert out == [
        "envlock",
        "1000",
        "/workspace",
        "written",
        "envlock.lock",
        "requirements.txt",
        "755 0",
        "755 0",
        "755 0",
        "755 0",
        "1777 0",
        "/home/envlock",
        "",
    ]


def test_an_image_that_went_away_in_the_meantime(world: World, store: Layers, monkeypatch) -> None:
    layers = [store.noise(f"{part} {os.urandom(4).hex()}") for part in ("one", "two", "three")]
    below = world.load(world.image(*layers[:2]), store)
    asked = []

    def open_and_remove(layer):
        if not asked:
            world.docker("rmi", "--force", below.id)
        asked.append(layer.title)
        return io.BytesIO(store.content[layer.key])

    image = world.image(*layers)
    loaded = world.load(image, store, open_layer=open_and_remove)
    assert world.engine.find(loaded.id).diff_ids == image.image.diff_ids
    assert asked[0] == layers[2].title
    if not world.per_blob:
        assert asked[1:] == [layer.title for layer in layers]
    assert world.docker(
        "run", "--rm", "--network", "none", "--user", "0", "--workdir", "/", loaded.id, "sh", "-c", "ls /data"
    ).split() == ["one", "three", "two"]


def test_a_base_that_the_engine_lacks_is_pulled_or_brought(world: World, store: Layers) -> None:
    base = make_small_base(world)
    layer = store.noise(f"one {os.urandom(4).hex()}")
    image = loadable(compose(base.plan, [layer], base_config=base.config), platform="linux/amd64")
    pulled = []
    loaded = world.load(
        image,
        store,
        pull_base=lambda: pulled.append(world.engine.pull(base.pinned, platform="linux/amd64", progress=Remembering())),
    )
    assert len(pulled) == 1
    assert world.engine.find(loaded.id).diff_ids == image.image.diff_ids
    world.docker("rmi", "--force", loaded.id, base.pinned)

    other_base = make_small_base(world)
    image = loadable(compose(other_base.plan, [layer], base_config=other_base.config), platform="linux/amd64")
    opened = lambda blob: world.blobs.open(other_base.repository, blob)  # noqa: E731
    loaded = world.load(image, store, pull_base=None, open_blob=opened)
    assert world.engine.find(loaded.id).diff_ids == image.image.diff_ids
    third = make_small_base(world)
    with pytest.raises(EngineError, match=r"missing|lacks"):
        world.load(
            loadable(compose(third.plan, [layer], base_config=third.config), platform="linux/amd64"),
            store,
            pull_base=None,
        )


def test_a_damaged_layer_stops_the_load_and_leaves_nothing(world: World, store: Layers) -> None:
    good, bad = store.noise(f"good {os.urandom(4).hex()}", 2 << 20), store.noise(f"bad {os.urandom(4).hex()}", 2 << 20)
    tar = store.content[bad.key]
    store.content[bad.key] = tar[:-600] + b"?" * 600
    image = world.image(good, bad)
    before = set(world.docker("images", "-aq", "--no-trunc").split())
    with pytest.raises(DamagedLayer) as caught:
        world.load(image, store)
    assert caught.value.key == bad.key
    mine = {
        found
        for found in set(world.docker("images", "-aq", "--no-trunc").split()) - before
        if world.docker("inspect", "--format", "{{json .Config.Labels}}", found).find(
            image.image.labels["envlock.fingerprint"]
        )
        >= 0
    }
    assert mine == set()
    store.content[bad.key] = tar
    assert world.engine.find(world.load(image, store).id).diff_ids == image.image.diff_ids


def test_a_caller_that_fails_in_the_middle_fails_with_its_own_error(world: World, store: Layers) -> None:
    layer = store.noise(f"one {os.urandom(4).hex()}")

    def fails(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.load(world.image(layer), store, open_layer=fails)
    assert world.load(world.image(layer), store).layers == 1


@dataclass
class SmallBase:
    repository: str
    pinned: str
    config: bytes
    plan: Plan


def make_small_base(world: World) -> SmallBase:
    """Put a base of a few bytes, that no engine has, into the registry."""
    from envlock.formats import oci
    from tests.support.composing import base_in_registry

    made = base_in_registry({"etc/hello": os.urandom(64)})
    repository = f"{REGISTRY}/envlock-test/base"
    from envlock.adapters.docker_login import Credentials
    from envlock.adapters.registry.exchange import Exchange
    from envlock.adapters.registry.upload import put_manifest, send_blob

    registry = Exchange(
        REGISTRY, Credentials({"DOCKER_CONFIG": "/nonexistent"}), path="envlock-test/base", pause=lambda _: None
    )
    config = oci.described("application/vnd.docker.container.image.v1+json", made.config)
    send_blob(registry, config, io.BytesIO(made.config))
    send_blob(registry, made.descriptor, io.BytesIO(made.layer))
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": described(config),
            "layers": [described(made.descriptor)],
        }
    ).encode()
    digest = oci.digest_of(manifest)
    put_manifest(
        registry,
        manifest,
        target=digest,
        media_type="application/vnd.docker.distribution.manifest.v2+json",
        digest=digest,
    )
    registry.close()
    base = replace(
        world.plan.base,
        repository=repository,
        manifest_digest=digest,
        image_id=oci.digest_of(made.config),
        layers=(made.descriptor,),
        diff_ids=(made.diff_id,),
    )
    return SmallBase(repository, f"{repository}@{digest}", made.config, replace(world.plan, base=base))


def described(blob: Descriptor) -> dict:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


# --- before the image is known as a whole -----------------------------------------------------------------------------


def early(
    world: World, store: Layers, below: Loadable, above: list[StoredLayer], image: Callable[[], Loadable]
) -> Loaded:
    pull = lambda: world.engine.pull(world.plan.base.pinned, platform="linux/amd64", progress=Remembering())  # noqa: E731
    supplies = Supplies(open_layer=store.open, pull_base=pull)
    coming = Coming(below=below, above=above, image=image)
    return world.engine.load_early(coming, supplies, progress=Remembering())


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
