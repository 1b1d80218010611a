"""Images between engine and registries: the real one, and ones that refuse."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.adapters.registry import HttpRegistry
from envlock.errors import EngineError, InputError, RegistryError, UnknownImage
from tests.support.engines import BASE, context, mark
from tests.support.progress import Remembering
from tests.support.registry_server import FakeRegistry, fake_registry

pytestmark = pytest.mark.engine

REGISTRY = os.environ.get("ENVLOCK_TEST_REGISTRY", "127.0.0.1:5000")
AMD64 = "linux/amd64"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.fixture
def engine(config: Path) -> Iterator[DockerEngine]:
    engine = DockerEngine({**os.environ, "DOCKER_CONFIG": str(config.parent)})
    yield engine
    engine.close()


@pytest.fixture
def image(engine: DockerEngine) -> Iterator[str]:
    made = engine.build(context(f"FROM {BASE}\nRUN echo {mark()} > /x\n"), platform=AMD64, on_line=lambda _: None)
    yield made
    subprocess.run(["docker", "rmi", "--force", made], check=False, capture_output=True)


@pytest.fixture
def refusing() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


def test_there_and_back(engine: DockerEngine, image: str) -> None:
    name = f"{REGISTRY}/envlock-test/{mark()}:1"
    engine.tag(image, name)
    progress = Remembering()
    digest = engine.push(name, progress=progress)
    assert progress.tasks[0].amount > 0  # bytes
    assert engine.distribution(name).digest == digest
    seen = HttpRegistry(os.environ).manifest(name, platform=AMD64)
    found = engine.find(image)
    assert found
    assert (seen.digest, seen.config.digest, seen.diff_ids) == (digest, image, found.diff_ids)

    engine.remove(name)
    engine.remove(f"{name.rpartition(':')[0]}@{digest}")
    engine.remove(image)
    assert engine.find(image) is None
    pulled = engine.pull(f"{name.rpartition(':')[0]}@{digest}", platform=AMD64, progress=Remembering())
    assert pulled.diff_ids == found.diff_ids
    assert engine.pull(name, platform=AMD64, progress=Remembering()).tags == (name,)
    engine.remove(name)


def test_names(engine: DockerEngine, image: str) -> None:
    name = f"envlock-test/{mark()}"
    engine.tag(image, f"{name}:1")
    engine.tag(image, name)
    found = engine.find(f"{name}:latest")
    assert found
    assert set(found.tags) == {f"{name}:1", f"{name}:latest"}
    engine.remove(f"{name}:1")
    assert engine.find(f"{name}:1") is None
    assert engine.find(image)
    engine.remove(f"{name}:1")  # gone already: nothing to do
    engine.remove(f"{name}:latest")
    with pytest.raises(UnknownImage):
        engine.tag("sha256:" + "0" * 64, f"{name}:2")
    with pytest.raises(InputError):
        engine.tag(image, "Not A Name")


def test_image_in_use_stays_and_says_so(engine: DockerEngine, image: str) -> None:
    with engine.container(image), pytest.raises(EngineError, match="in use"):
        engine.remove(image)
    assert engine.find(image)


def test_unknown_tag_and_other_platform(engine: DockerEngine) -> None:
    for ask in (engine.distribution, lambda name: engine.pull(name, platform=AMD64, progress=Remembering())):
        with pytest.raises(UnknownImage) as caught:
            ask(f"{REGISTRY}/envlock/base:no-such-tag")
        assert caught.value.hint
    with pytest.raises(InputError, match="linux/arm64"):
        engine.pull(f"{REGISTRY}/{BASE}", platform="linux/arm64", progress=Remembering())


def test_push_to_nobody(engine: DockerEngine, image: str) -> None:
    with fake_registry() as gone:
        name = f"{gone.host}/envlock-test:1"
    engine.tag(image, name)
    with pytest.raises(RegistryError, match="cannot reach") as caught:
        engine.push(name, progress=Remembering())
    assert caught.value.hint


def test_push_of_what_is_not_there(engine: DockerEngine) -> None:
    with pytest.raises(UnknownImage):
        engine.push(f"{REGISTRY}/envlock-test/none:1", progress=Remembering())


def wants_password(request: BaseHTTPRequestHandler, right: str):
    if request.headers.get("Authorization") != f"Basic {right}":
        return 401, {"WWW-Authenticate": 'Basic realm="test"'}, b'{"errors":[{"code":"UNAUTHORIZED"}]}'
    if request.path == "/v2/":
        return 200, {}, b"{}"
    return 403, {"Content-Type": "application/json"}, b'{"errors":[{"code":"DENIED","message":"not yours"}]}'


@pytest.mark.parametrize("known", [False, True], ids=["without credentials", "with credentials that are not enough"])
def test_push_that_is_refused(
    engine: DockerEngine, image: str, refusing: FakeRegistry, config: Path, known: bool
) -> None:
    password = base64.b64encode(b"me:hunter22").decode()
    refusing.misbehave = lambda request: wants_password(request, password)
    if known:
        config.write_text(json.dumps({"auths": {refusing.host: {"auth": password}}}))
    name = f"{refusing.host}/envlock-test:1"
    engine.tag(image, name)
    with pytest.raises(RegistryError) as caught:
        engine.push(name, progress=Remembering())
    error = caught.value
    assert f"docker login {refusing.host}" in error.hint
    assert "hunter22" not in " ".join([error.message, error.hint, *error.details])
    sent = [headers.get("authorization") for _, headers in refusing.asked]
    assert (f"Basic {password}" in sent) is known  # the engine was given what `docker login` keeps


def test_push_that_breaks(engine: DockerEngine, image: str, refusing: FakeRegistry) -> None:
    refusing.misbehave = lambda request: (200, {}, b"{}") if request.path == "/v2/" else (400, {}, b"no")
    name = f"{refusing.host}/envlock-test:1"
    engine.tag(image, name)
    with pytest.raises(RegistryError):
        engine.push(name, progress=Remembering())


def test_missing_credential_helper(engine: DockerEngine, image: str, config: Path) -> None:
    config.write_text('{"credsStore": "there-is-none"}')
    name = f"{REGISTRY}/envlock-test/{mark()}:1"
    engine.tag(image, name)
    with pytest.raises(RegistryError, match="credentials for"):
        engine.push(name, progress=Remembering())


def test_mirror_of_the_engine(engine: DockerEngine) -> None:
    """Names of the default registry are looked up where the engine would."""
    mirrors = engine.info().mirrors
    if not mirrors:
        pytest.fail("the test engine has a registry mirror (.ci/engine)")
    found = HttpRegistry(os.environ, mirrors=lambda: mirrors).manifest("debian:bookworm-slim", platform=AMD64)
    assert found.repository == "debian"
    image = engine.pull(f"debian@{found.digest}", platform=AMD64, progress=Remembering())
    assert image.diff_ids == found.diff_ids
