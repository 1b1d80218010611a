"""Real bases, looked into with an engine and without one: both ways say the same, byte for byte."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.bases.in_engine import EngineBases
from envlock.adapters.bases.listing import base_part
from envlock.adapters.bases.without_engine import UnpackedBases
from envlock.adapters.engine import DockerEngine
from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry import HttpRegistry
from envlock.adapters.registry.push import Blobs
from envlock.build import have_base
from envlock.errors import BuildFailed, HashMismatch
from envlock.formats.base_files import Found, read_layers
from envlock.layers.compiler import Source
from envlock.layers.skeleton import skeleton_layer
from envlock.layers.store import LayerStore
from envlock.layers.target import target_of
from envlock.lock.interpreter import probe
from envlock.model.lock import Base
from tests.support.engines import context, mark
from tests.support.loading import BASE, REGISTRY, other
from tests.support.locks import make_base
from tests.support.progress import Remembering
from tests.support.tars import entry, folder, link, tar

pytestmark = pytest.mark.engine

PLATFORM = "linux/amd64"
BASES = ["py3.11", "py3.13", "py3.11-cuda11.8"]
# the other generations and kinds of image store (.ci/engine second up, third up) where they are asked for
ENGINES = ["first", *os.environ.get("ENVLOCK_TEST_ENGINES", "").split()]
SOURCES = [Source("/opt/venv/x.py", b"# coding: big5\nX = {1, 'a b'}\n"), Source("/opt/venv/bad.py", b"def\n")]


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    engine = DockerEngine(os.environ)
    yield engine
    engine.close()


def described(engine: DockerEngine, reference: str) -> Base:
    """Return a base of a registry as a lock has it."""
    found = HttpRegistry(os.environ).manifest(reference, platform=PLATFORM)
    base = make_base(
        reference=reference,
        repository=reference.rpartition(":")[0],
        manifest_digest=found.digest,
        image_id=found.config.digest,
        layers=found.layers,
        diff_ids=found.diff_ids,
        env=found.env,
    )
    engine.pull(base.pinned, platform=PLATFORM, progress=Remembering())
    with engine.container(base.pinned) as container:
        return make_base(**{name: getattr(base, name) for name in base.__slots__} | {"python": probe(container).python})


@pytest.fixture(scope="module", params=BASES)
def base(request: pytest.FixtureRequest, engine: DockerEngine) -> Base:
    return described(engine, f"{BASE}:{request.param}")


def with_engine(engine: DockerEngine, folder_: Path) -> EngineBases:
    progress = Remembering()
    return EngineBases(
        engine=engine,
        registry=HttpRegistry(os.environ),
        blobs=Blobs(os.environ, packed=PackedLayers(folder_ / "packed")),
        have=partial(have_base, engine=engine, progress=progress),
        store=LayerStore(folder_ / "store"),
        cache=folder_ / "cache",
        progress=progress,
    )


def without(folder_: Path) -> UnpackedBases:
    return UnpackedBases(
        registry=HttpRegistry(os.environ),
        blobs=Blobs(os.environ, packed=PackedLayers(folder_ / "packed")),
        artifacts=ArtifactStore(folder_ / "artifacts"),
        cache=folder_ / "cache",
        progress=Remembering(),
    )


@pytest.fixture
def no_local_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_local_python")
def test_both_ways_say_the_same(base: Base, engine: DockerEngine, tmp_path: Path) -> None:
    target = target_of(base.python)
    said = []
    for bases in (with_engine(engine, tmp_path / "with"), without(tmp_path / "without")):
        with bases.opened(base, platform=PLATFORM) as opened, opened.compiler() as compiler:
            opened.warm()
            skeleton = opened.skeleton(target.venv)
            layer = skeleton_layer(LayerStore(tmp_path / type(bases).__name__), base, target, make=opened.skeleton)
            said.append((opened.config(), opened.files(), skeleton, layer, list(compiler.compile(SOURCES))))
    assert said[0] == said[1]
    config, files, skeleton, _, compiled = said[0]
    assert f"sha256:{hashlib.sha256(config).hexdigest()}" == base.image_id
    assert files.passwd.startswith(b"root:x:0:0:")
    assert files.real("lib/x") == "usr/lib/x"
    assert {path for path in skeleton if "bin/python" in path} == {
        f"{target.venv}/bin/{name}" for name in ("python", "python3", f"python{target.minor}")
    }
    assert all(str(tmp_path) not in str(entry_) for entry_ in skeleton.items())
    assert [content is None for content in compiled] == [False, True]


def test_files_are_what_the_engine_itself_lays_over_each_other(
    base: Base, engine: DockerEngine, tmp_path: Path
) -> None:
    with engine.tree(base.pinned) as whole:
        expected = base_part(read_layers([whole]))
    with with_engine(engine, tmp_path).opened(base, platform=PLATFORM) as opened:
        assert opened.files() == expected
    assert len(expected.entries) > 500


def test_the_environment_is_not_made_on_this_machine(base: Base, tmp_path: Path) -> None:
    venv = str(tmp_path / "here")
    bases = without(tmp_path / "without")
    with bases.opened(base, platform=PLATFORM) as opened:
        made = opened.skeleton(venv)
    assert f"{venv}/pyvenv.cfg" in made
    assert not Path(venv).exists()
    assert len(bases.progress.messages) == 1
    assert base.python.version in bases.progress.messages[0]


# --- a base with odd things in it -------------------------------------------------------------------------------------

ODD = tar(
    link("etc/resolv.conf", "../run/resolv/stub.conf"),
    link("etc/mtab", "../proc/self/mounts"),
    folder("var/data", mode=0o750, uid=7, gid=8),
    folder("var/data/inner", mode=0o2775, uid=7),
    link("var/data/link", "inner"),
    folder("srv/odd \udcff name", mode=0o711),
    folder("opt/extra"),
    folder("opt/extra/left-1.0.dist-info"),
    entry("opt/extra/left-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: left\nVersion: 1.0\n"),
)


def odd_image(engine: DockerEngine, name: str, dockerfile: str = "") -> str:
    lines = f"FROM envlock/base:py3.11\nLABEL mark={mark()}\nADD odd.tar /\nVOLUME /var/data\n{dockerfile}"
    image = engine.build(context(lines, **{"odd.tar": ODD}), platform=PLATFORM, on_line=lambda _: None)
    engine.tag(image, name)
    return image


@pytest.fixture
def odd(engine: DockerEngine) -> Iterator[str]:
    name = f"{REGISTRY}/envlock-test/bases:{mark()}"
    odd_image(engine, name)
    yield name
    engine.remove(name)


def test_volumes_and_what_the_engine_writes(odd: str, engine: DockerEngine, tmp_path: Path) -> None:
    engine.push(odd, progress=Remembering())
    base = described(engine, odd)
    try:
        found = []
        for bases in (with_engine(engine, tmp_path / "with"), without(tmp_path / "without")):
            with bases.opened(base, platform=PLATFORM) as opened:
                found.append(opened.files())
        assert found[0] == found[1]
        entries = found[0].entries
        assert entries["var/data"] == Found(mode=0o750, uid=7, gid=8)
        assert entries["var/data/inner"] == Found(mode=0o2775, uid=7, gid=0)
        assert entries["var/data/link"] == Found(mode=0o777, target="inner")
        assert entries["srv/odd \udcff name"] == Found(mode=0o711)
        assert not {"etc/resolv.conf", "etc/mtab", "proc", "dev", "sys"} & set(entries)
    finally:
        engine.remove(base.pinned)


def test_a_base_that_adds_packages_to_every_environment(engine: DockerEngine, tmp_path: Path) -> None:
    name = f"{REGISTRY}/envlock-test/bases:{mark()}"
    odd_image(engine, name, "ENV PYTHONPATH=/opt/extra\n")
    try:
        engine.push(name, progress=Remembering())
        base = described(engine, name)
        for bases in (with_engine(engine, tmp_path / "with"), without(tmp_path / "without")):
            with (
                bases.opened(base, platform=PLATFORM) as opened,
                pytest.raises(BuildFailed, match="adds a package") as caught,
            ):
                opened.skeleton("/opt/venv")
            assert caught.value.details == ("left",)
        engine.remove(base.pinned)
    finally:
        engine.remove(name)


@pytest.mark.parametrize("name", ENGINES)
def test_a_base_that_only_the_engine_has(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    host = None if name == "first" else other(name)
    engine = DockerEngine(dict(os.environ) | ({"DOCKER_HOST": host} if host else {}))
    request.addfinalizer(engine.close)
    tag = f"envlock-test-bases:{mark()}"
    engine.pull(f"{BASE}:py3.11", platform=PLATFORM, progress=Remembering())
    lines = f"FROM {BASE}:py3.11\nADD odd.tar /\n"
    image = engine.build(context(lines, **{"odd.tar": ODD}), platform=PLATFORM, on_line=lambda _: None)
    engine.tag(image, tag)
    request.addfinalizer(lambda: engine.remove(tag))
    found = engine.find(tag)
    assert found is not None
    base = make_base(
        reference=tag, repository="", manifest_digest=None, image_id=config_id(tag, host), diff_ids=found.diff_ids
    )
    # A containerd store's own name for the image is the manifest's digest.
    bases = replace(with_engine(engine, tmp_path), have=lambda base, *, platform: tag)
    with bases.opened(base, platform=PLATFORM) as opened:
        assert f"sha256:{hashlib.sha256(opened.config()).hexdigest()}" == base.image_id
        layers = opened.local_layers()
        assert tuple(layer.diff_id for layer in layers) == base.diff_ids
        for layer in layers:
            with bases.store.open(layer) as stream:
                assert f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == layer.diff_id
        with ExitStack() as stack:
            files = base_part(read_layers(stack.enter_context(bases.store.open(layer)) for layer in layers))
        assert files.find("srv/odd \udcff name") == Found(mode=0o711)
        if name == "first":  # the others are dockerds in a chroot: what runs by "exec" there is in this machine's root
            assert opened.files() == files
    wrong = make_base(reference=tag, manifest_digest=None, diff_ids=("sha256:" + "0" * 64,))
    with bases.opened(wrong, platform=PLATFORM) as opened:
        for question in (opened.config, opened.local_layers):
            with pytest.raises(HashMismatch):
                question()


def config_id(tag: str, host: str | None) -> str:
    """Return the digest of an image's configuration, from what Docker's own client saves."""
    argv = ["docker", *(["--host", host] if host else []), "save", tag]
    with tarfile.open(fileobj=io.BytesIO(subprocess.run(argv, check=True, capture_output=True).stdout)) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        path = json.load(manifest)[0]["Config"]
        config = archive.extractfile(path)
        assert config is not None
        return f"sha256:{hashlib.sha256(config.read()).hexdigest()}"


def test_a_container_that_was_started_for_nothing_is_gone(odd: str, engine: DockerEngine, tmp_path: Path) -> None:
    found = engine.find(odd)
    assert found is not None
    base = make_base(reference=odd, repository="", manifest_digest=None, image_id=found.id, diff_ids=found.diff_ids)
    with with_engine(engine, tmp_path).opened(base, platform=PLATFORM) as opened:
        opened.warm()
        opened._compilers._early._thread.join()
        assert of(odd) != ""
    assert of(odd) == ""
    with with_engine(engine, tmp_path).opened(base, platform=PLATFORM) as opened:
        opened.warm()  # and at once, while it starts
    assert of(odd) == ""


def of(image: str) -> str:
    """Return the containers of an image, in any state."""
    argv = ["docker", "ps", "--all", "--quiet", "--filter", f"ancestor={image}"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
