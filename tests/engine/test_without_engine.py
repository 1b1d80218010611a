"""``envlock build`` where there is no engine, and what engines and others make of the images that come out."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry import HttpRegistry
from envlock.adapters.registry.push import Blobs
from envlock.formats import oci
from envlock.formats.lock_json import fingerprint
from envlock.model.lock import Base, Lock, SourceBuild
from envlock.model.spec import ImageOptions, ProjectFiles
from tests.engine.conftest import docker, remove_images
from tests.support.blob_registry import BlobRegistry, blob_registry
from tests.support.debs import make_deb
from tests.support.handmade import (
    PLATFORM,
    Servers,
    Written,
    forget_pushed,
    make_project,
    read_layout,
    registry_base,
    servers,
)
from tests.support.loading import REGISTRY
from tests.support.packages import sdist, wheel
from tests.support.workspace import Answer, Workspace, make_workspace

pytestmark = pytest.mark.engine

NOWHERE = "unix:///nowhere.sock"
SAYS = "import tool, sys, os; print(tool.VERSION, sys.prefix, os.environ['SEED'], open('train.py').read().strip())"


@dataclass(frozen=True)
class Place:
    """A machine without an engine, packages that it can have, and a lock of them."""

    servers: Servers
    work: Workspace
    lock: Lock

    @property
    def image(self) -> str:
        return f"{self.lock.image.repository}:env-{fingerprint(self.lock)[:12]}"

    def build(self, *options: str, lock: Lock | None = None, code: int = 0, **env: str) -> Answer:
        make_project(self.work.folder, lock or self.lock, {"train.py": "trains = True\n"})
        try:
            return self.work.envlock("build", "--no-record", "--json", *options, code=code, env=env)
        finally:
            shutil.rmtree(self.work.folder)

    def written(self, name: str, *options: str, **more) -> tuple[Path, Written]:
        target = self.work.folder.parent / name
        said = self.build("--engine", "none", "--output", str(target), *options, **more).json
        found = read_layout(target)
        assert (said["image_id"], said["manifest_digest"]) == (found.image_id, found.digest)
        assert said["output"] == str(target)
        return target, found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    repository = f"{REGISTRY}/envlock-test/alone-{os.urandom(6).hex()}"
    with servers() as here:
        lock = here.lock(
            repository=repository,
            wheels=[
                here.wheel(wheel("tool", entry_points={"console_scripts": {"tool": "tool:main"}})),
                here.wheel(wheel("data", files={"data/x.bin": os.urandom(1 << 20), "data/__init__.py": "A = 1\n"})),
            ],
            project=ProjectFiles(include=("/train.py",)),
        )
        root = tmp_path_factory.mktemp("alone")
        yield Place(here, make_workspace(root, index_url=here.index.url, DOCKER_HOST=NOWHERE), lock)
    remove_images(repository)
    forget_pushed(repository)


@pytest.fixture(scope="module")
def archive(place: Place) -> tuple[Path, Written]:
    return place.written("image.tar")


def test_a_file_a_folder_and_a_registry_have_one_digest(place: Place, archive: tuple[Path, Written]) -> None:
    assert place.written("folder")[1] == archive[1]
    said = place.build("--engine", "none", "--push", "--tag", "v1").json
    assert (said["manifest_digest"], said["image_id"]) == (archive[1].digest, archive[1].image_id)
    found = HttpRegistry(os.environ).manifest(f"{place.lock.image.repository}:v1", platform=PLATFORM)
    assert (found.digest, found.config.digest) == (archive[1].digest, archive[1].image_id)
    assert tuple(layer.digest for layer in found.layers) == archive[1].layers
    # a folder with a layout is replaced by the next one, and so is a file
    assert place.written("folder")[1] == archive[1]


def test_an_engine_loads_the_archive_and_runs_the_image(place: Place, archive: tuple[Path, Written]) -> None:
    assert place.image in docker("load", "--input", str(archive[0]))
    try:
        assert docker("image", "inspect", "--format", "{{.Id}}", place.image).strip() == archive[1].image_id
        out = docker("run", "--rm", "--network", "none", place.image, "python", "-c", SAYS)
        assert out.split(maxsplit=3) == ["1.0", "/opt/venv", "42", "trains = True\n"]
        # an engine that has it already has nothing left to do
        said = place.build(DOCKER_HOST=os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")).json
        assert (said["image_id"], said["reused"]) == (archive[1].image_id, True)
    finally:
        docker("rmi", "--force", place.image)


@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed (.ci/test does it)")
def test_podman_loads_and_runs_it(place: Place, archive: tuple[Path, Written], tmp_path: Path) -> None:
    run = tempfile.mkdtemp(prefix="envlock-")  # podman wants a short path
    podman = ["podman", "--root", str(tmp_path / "root"), "--runroot", run, "--storage-driver", "vfs"]
    try:
        tool(*podman, "load", "--input", str(archive[0]))
        found = json.loads(tool(*podman, "image", "inspect", archive[1].image_id.removeprefix("sha256:")))[0]
        assert found["RootFS"]["Layers"] == list(archive[1].diff_ids)
        assert found["Labels"]["envlock.fingerprint"] == fingerprint(place.lock)
        assert place.image in found["NamesHistory"] + found["RepoTags"]
    finally:
        shutil.rmtree(run, ignore_errors=True)


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed (.ci/test does it)")
def test_skopeo_reads_and_copies_it(place: Place, archive: tuple[Path, Written], tmp_path: Path) -> None:
    folder, written = place.written("folder")
    assert json.loads(tool("skopeo", "inspect", f"oci:{folder}"))["Digest"] == written.digest
    shown = json.loads(tool("skopeo", "inspect", "--config", f"oci-archive:{archive[0]}"))
    assert tuple(shown["rootfs"]["diff_ids"]) == written.diff_ids
    copied = f"{place.lock.image.repository}:skopeo"
    tool("skopeo", "copy", "--dest-tls-verify=false", f"oci-archive:{archive[0]}", f"docker://{copied}")
    assert HttpRegistry(os.environ).manifest(copied, platform=PLATFORM).digest == written.digest
    tool("skopeo", "copy", f"docker-archive:{archive[0]}", f"dir:{tmp_path}/docker")


def test_auto_says_that_there_is_no_engine_and_goes_on(place: Place, archive: tuple[Path, Written]) -> None:
    said = place.build("--output", str(place.work.folder.parent / "auto.tar"))
    assert said.json["image_id"] == archive[1].image_id
    assert "No container engine: " in said.stderr
    assert "Composing the image without one" in said.stderr


def test_it_has_to_go_somewhere(place: Place) -> None:
    """Without --output and --push there is nothing that could come of it."""
    said = place.build(code=3)
    assert "error: " in said.stderr
    assert "nowhere.sock" in said.stderr
    assert "hint: " in said.stderr
    assert "--output" in said.stderr
    said = place.build("--engine", "none", code=2)
    assert "without a container engine, the image has to go somewhere else" in said.stderr
    assert "--output" in said.stderr
    assert "nowhere.sock" in place.build("--engine", "docker", "--push", code=3).stderr
    assert "nowhere.sock" in place.build("--plain", "--push", code=3).stderr


def test_what_only_an_engine_can_do_is_named(place: Place, tmp_path: Path) -> None:
    target = str(tmp_path / "image.tar")
    deb = place.servers.deb(make_deb("tiny-tool"))
    said = place.build("--engine", "none", "--output", target, lock=replace(place.lock, debs=(deb,)), code=3)
    assert "1 system packages have to be installed, and only a container engine can do that" in said.stderr
    assert "  tiny-tool 1.0-1\n" in said.stderr
    assert "hint: build once where there is an engine" in said.stderr

    source, built = sdist("old"), wheel("old")
    place.servers.index.add(source)
    details = SourceBuild(
        source="default", filename=source.filename, sha256=source.sha256, size=len(source.content), build_requires=()
    )
    from_source = replace(place.servers.wheel(built), built_from=details)
    lock = replace(place.lock, wheels=(from_source, *place.lock.wheels))
    # also where there would be an engine: none is none
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    said = place.build("--engine", "none", "--output", target, lock=lock, code=3, DOCKER_HOST=engine)
    assert "old-1.0-py3-none-any.whl has to be built from old-1.0.tar.gz, and only a container engine" in said.stderr
    assert "hint: build once where there is an engine" in said.stderr
    assert not Path(target).exists()


def test_a_base_that_only_an_engine_has(place: Place, tmp_path: Path) -> None:
    base = replace(registry_base(), reference="local:base", repository="", manifest_digest=None, layers=())
    lock = replace(place.lock, base=base)
    said = place.build("--engine", "none", "--output", str(tmp_path / "image.tar"), lock=lock, code=2)
    assert "the base local:base is in no registry" in said.stderr
    assert "hint: " in said.stderr


# --- a registry that wants to know who asks, and has bad moments ------------------------------------------------------


@pytest.fixture
def guarded(place: Place, tmp_path: Path) -> Iterator[tuple[BlobRegistry, Lock]]:
    """Give a registry with the base, for one user alone, and a lock on it."""
    blobs = Blobs(os.environ, packed=PackedLayers(tmp_path))
    base = registry_base()
    found = HttpRegistry(os.environ).manifest(base.pinned, platform=PLATFORM)
    with blob_registry() as registry:
        registry.token, registry.login = "t0ken", ("reader", "s3cret")
        registry.add("team/base", blobs.config(base.repository, found.config))
        for layer in base.layers:
            with blobs.opened(base.repository, layer) as stream:
                registry.add("team/base", stream.read())
        manifest = oci.manifest(found.config, base.layers)
        registry.manifests["team/base", oci.digest_of(manifest)] = (oci.MANIFEST, manifest)
        yield registry, lock_on(place.lock, base, registry, oci.digest_of(manifest))


def lock_on(lock: Lock, base: Base, registry: BlobRegistry, digest: str) -> Lock:
    name = f"{registry.host}/team/base"
    moved = replace(base, reference=f"{name}:v1", repository=name, manifest_digest=digest)
    return replace(lock, base=moved, image=ImageOptions(repository=f"{registry.host}/team/demo"))


def test_credentials_of_docker_login_and_a_connection_that_breaks(
    place: Place, guarded: tuple[BlobRegistry, Lock], tmp_path: Path
) -> None:
    registry, lock = guarded
    fresh = replace(place, work=make_workspace(tmp_path / "w", index_url=place.servers.index.url, DOCKER_HOST=NOWHERE))
    refused = fresh.build("--engine", "none", "--push", lock=lock, code=3)
    assert registry.host in refused.stderr
    assert "docker login" in refused.stderr

    auth = base64.b64encode(b":".join(part.encode() for part in registry.login)).decode()
    config = Path(fresh.work.env["HOME"]) / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    asked: dict[str, list[str]] = {}

    def breaks(handler) -> bool:
        """Break off in the middle of the first two answers for each large blob of the base."""
        digest, wanted = handler.path.rpartition("/")[2], handler.headers.get("Range", "")
        content = registry.blobs.get(("team/base", digest), b"")
        if handler.command != "GET" or len(content) < 2 << 20:
            return False
        asked.setdefault(digest, []).append(wanted)
        if len(asked[digest]) > 2:
            return False
        begin = int(wanted.removeprefix("bytes=").removesuffix("-") or 0)
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        handler.wfile.write(content[begin : begin + (600 << 10)])
        handler.drop()
        return True

    registry.fault = breaks
    target, written = fresh.written("image.tar", "--push", lock=lock)
    assert asked
    for first, second, third, *more in asked.values():
        assert first == ""
        assert 0 < int(second[6:-1]) <= 600 << 10 < int(third[6:-1])
        assert more == []
    _, manifest = registry.manifests["team/demo", f"env-{fingerprint(lock)[:12]}"]
    assert oci.digest_of(manifest) == written.digest
    pushed = json.loads(manifest)
    for blob in (pushed["config"], *pushed["layers"]):
        assert oci.digest_of(registry.blobs["team/demo", blob["digest"]]) == blob["digest"]
    assert "s3cret" not in target.read_bytes().decode("latin-1")


def tool(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
