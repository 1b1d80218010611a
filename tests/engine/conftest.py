"""A real engine, and what a user of the command line has around it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.errors import EngineError
from tests.support.building import pip_bytes
from tests.support.index_server import Index, index_server
from tests.support.packages import Package, core_metadata, wheel
from tests.support.workspace import Workspace, make_workspace


@pytest.fixture(scope="session", autouse=True)
def _engine_answers() -> None:
    """Fail, and never skip, where there is no engine."""
    engine = DockerEngine(os.environ)
    try:
        engine.info()
    except EngineError as error:
        pytest.exit(f"these tests need a real engine: {error.message}; run 'make engine'", returncode=3)
    finally:
        engine.close()


def pip_wheel() -> Package:
    """Return a real pip, for indexes that must have one: it installs the wheels."""
    from importlib.metadata import distribution

    version = distribution("pip").version
    return Package(
        name="pip",
        version=version,
        filename=f"pip-{version}-py3-none-any.whl",
        content=pip_bytes(),
        metadata=core_metadata("pip", version),
    )


@pytest.fixture
def index() -> Iterator[Index]:
    """Serve a small world of packages on loopback."""
    with index_server(
        [
            pip_wheel(),
            wheel("numlib", "1.0"),
            wheel("numlib", "1.1"),
            wheel("numlib", "2.0"),
            wheel("learn", "1.0", requires=["numlib<2"]),
            wheel("learn", "2.0", requires=["numlib>=1.1"]),
            wheel("tracker", "3.1", requires=["numlib"]),
        ]
    ) as server:
        yield server


@pytest.fixture
def workspace(tmp_path: Path, index: Index) -> Iterator[Workspace]:
    """Give a folder for a spec; what was built there is removed from the engine afterwards."""
    made = make_workspace(tmp_path, index_url=index.url)
    yield made
    remove_images(f"envlock-test/{tmp_path.name.replace('_', '-')}")


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """Return an image repository of this test's own."""
    return f"envlock-test/{tmp_path.name.lower().replace('_', '-')}"


def docker(*arguments: str) -> str:
    """Run Docker's own client."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def remove_images(repository: str) -> None:
    """Remove all images of a repository from the engine."""
    names = docker("images", "--format", "{{.Repository}}:{{.Tag}}", repository).split()
    if names:
        subprocess.run(["docker", "rmi", "--force", *names], check=False, capture_output=True)


@pytest.fixture(name="docker")
def _docker() -> Callable[..., str]:
    return docker
