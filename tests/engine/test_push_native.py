"""Pushing without an engine to a real registry, and what engines, podman and skopeo make of it and of layouts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envlock.adapters.oci_layout import Sources, write_layout
from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry import HttpRegistry
from envlock.adapters.registry.push import Blobs, Pushed
from envlock.compose import small_layers
from envlock.errors import RegistryError
from tests.support.composing import Layers
from tests.support.loading import BASE, REGISTRY, World, composed_world
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


def tool(*argv: str, home: Path, **more) -> str:
    """Run a program that Debian has; a missing one fails the test."""
    assert shutil.which(argv[0]), f"{argv[0]} is missing: apt-get install {argv[0]}"
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def whole(world: World, store: Layers, folder: Path):
    """Return an image with all small layers and one of 2 MiB."""
    made = small_layers(world.plan, project=folder, files=world.files)
    layers = [store.noise("one", 2 << 20), *(store.small(layer) for layer in made)]
    return world.image(*layers).image


def push(world: World, store: Layers, image, folder: Path, *tags: str) -> Pushed:
    blobs = Blobs(dict(os.environ), packed=PackedLayers(folder))
    names = [f"{REGISTRY}/envlock-test/push:{tag}" for tag in tags]
    return blobs.push(image, names, base=BASE, open_layer=store.open, progress=Remembering())


def layout(world: World, store: Layers, image, target: Path, **more) -> str:
    sources = Sources(
        packed=PackedLayers(target.parent / "packed"),
        open_layer=store.open,
        open_blob=lambda blob: world.blobs.open(BASE, blob),
    )
    return write_layout(image, target, platform="linux/amd64", sources=sources, progress=Remembering(), **more)


def test_engines_pull_what_was_pushed(world: World, store: Layers, tmp_path: Path) -> None:
    image = whole(world, store, tmp_path)
    done = push(world, store, image, tmp_path / "a", "v1", "v2")
    again = push(world, store, image, tmp_path / "another machine", "v1")
    assert again == Pushed(digest=done.digest, sent=0, blobs=0)
    reference = f"{REGISTRY}/envlock-test/push:v2"
    found = HttpRegistry(os.environ).manifest(reference, platform="linux/amd64")
    assert (found.digest, found.config.digest, found.diff_ids) == (done.digest, image.image_id, image.diff_ids)
    try:
        pulled = world.engine.pull(reference, platform="linux/amd64", progress=Remembering())
        assert pulled.diff_ids == image.diff_ids
        assert pulled.id == (done.digest if world.per_blob else image.image_id)
        out = world.docker("run", "--rm", "--network", "none", reference, "sh", "-c", "id -un; wc -c < /data/one")
        assert out.split() == ["envlock", str(2 << 20)]
    finally:
        world.engine.remove(reference)


def test_one_changed_layer_is_all_that_is_sent(world: World, store: Layers, tmp_path: Path) -> None:
    layers = [store.noise(f"{part} {os.urandom(4).hex()}") for part in ("one", "two", "three")]
    first = push(world, store, world.image(*layers).image, tmp_path, "changing")
    assert first.blobs == 4
    changed = store.noise(f"other {os.urandom(4).hex()}")
    second = push(world, store, world.image(layers[0], changed, layers[2]).image, tmp_path, "changing")
    assert second.blobs == 2
    assert second.sent < changed.size + 16384


def test_a_repository_that_the_registry_will_not_have(world: World, store: Layers, tmp_path: Path) -> None:
    blobs = Blobs(dict(os.environ), packed=PackedLayers(tmp_path))
    with pytest.raises(RegistryError, match="one repository"):
        blobs.push(
            world.image().image,
            [f"{REGISTRY}/a:1", f"{REGISTRY}/b:1"],
            base=BASE,
            open_layer=store.open,
            progress=Remembering(),
        )


def test_engines_load_an_archive_that_was_made_without_one(world: World, store: Layers, tmp_path: Path) -> None:
    image = whole(world, store, tmp_path)
    name = "envlock-test-load:archive"
    digest = layout(world, store, image, tmp_path / "image.tar", names=[name], archive=True)
    assert digest == push(world, store, image, tmp_path / "packed", "layout").digest
    try:
        assert name in world.docker("load", "--input", str(tmp_path / "image.tar"))
        found = world.engine.find(name)
        assert found.diff_ids == image.diff_ids
        assert found.id == (digest if world.per_blob else image.image_id)
        assert world.docker("run", "--rm", "--network", "none", name, "id", "-u").strip() == "1000"
    finally:
        world.engine.remove(name)


@pytest.mark.parametrize("world", ["first"], indirect=True)
def test_podman_and_skopeo(world: World, store: Layers, tmp_path: Path, request) -> None:
    image = whole(world, store, tmp_path)
    name = "example.org/envlock-test/load:v1"
    digest = layout(world, store, image, tmp_path / "image.tar", names=[name], archive=True)
    layout(world, store, image, tmp_path / "layout", archive=False)
    raw = tool("skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout", home=tmp_path)
    assert json.loads(raw)["config"]["digest"] == image.image_id
    assert json.loads(tool("skopeo", "inspect", f"oci:{tmp_path}/layout", home=tmp_path))["Digest"] == digest

    copied = f"docker://{REGISTRY}/envlock-test/skopeo:v1"
    tool("skopeo", "copy", "--dest-tls-verify=false", f"oci:{tmp_path}/layout", copied, home=tmp_path)
    found = HttpRegistry(os.environ).manifest(copied.removeprefix("docker://"), platform="linux/amd64")
    assert found.digest == digest
    tool(
        "skopeo", "copy", "--insecure-policy", f"oci-archive:{tmp_path}/image.tar", f"dir:{tmp_path}/dir", home=tmp_path
    )
    tool("skopeo", "copy", f"docker-archive:{tmp_path}/image.tar", f"dir:{tmp_path}/docker", home=tmp_path)

    run = tempfile.mkdtemp(prefix="envlock-")  # podman wants a short path
    request.addfinalizer(lambda: shutil.rmtree(run, ignore_errors=True))
    storage = ["--root", str(tmp_path / "root"), "--runroot", run, "--storage-driver", "vfs"]
    tool("podman", *storage, "load", "--input", str(tmp_path / "image.tar"), home=tmp_path)
    loaded = json.loads(
        tool("podman", *storage, "image", "inspect", image.image_id.removeprefix("sha256:"), home=tmp_path)
    )
    assert loaded[0]["RootFS"]["Layers"] == list(image.diff_ids)
    assert loaded[0]["NamesHistory"] == [name] or name in loaded[0]["RepoTags"]
