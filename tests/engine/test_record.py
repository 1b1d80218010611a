"""Recording, showing and diffing images of the real engine, with a real MLflow store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.adapters.mlflow_store import MlflowRuns, default_tracking_uri
from envlock.adapters.outbox import FileOutbox
from envlock.adapters.publishing import PushMemory
from envlock.build import build
from envlock.cli.record import read_subject, record_of
from envlock.cli.refs import environment_of
from envlock.cli.tracking import destination_of, send
from envlock.diff import compare
from envlock.errors import InputError
from envlock.model.image import Image
from envlock.model.lock import Lock
from envlock.model.plan import Project
from envlock.model.record import Record
from envlock.model.spec import ImageOptions, Seeds
from tests.support.building import Goods, lock_on, plan_of, workshop
from tests.support.progress import Remembering

pytestmark = pytest.mark.engine

BASE = "envlock/base:py3.11"
REPOSITORY = "envlock-test/recorded"


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    found = DockerEngine(os.environ)
    yield found
    found.close()


@pytest.fixture(scope="module")
def built(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, tuple[Image, Lock]]]:
    """Build two images that differ in one pin."""
    folder = tmp_path_factory.mktemp("built")
    images: dict[str, tuple[Image, Lock]] = {}
    for version in ("1.0", "2.0"):
        goods = Goods()
        lock = lock_on(
            engine,
            BASE,
            goods,
            wheels=(goods.wheel("numpy", version), goods.wheel("left-pad")),
            image=ImageOptions(repository=REPOSITORY, labels={"org.example.team": "a"}),
            seeds=Seeds(seed=42, cudnn_deterministic=True),
            env={"OMP_NUM_THREADS": "2"},
        )
        plan = plan_of(lock, Project(revision="a" * 40, version="v1-dirty", dirty=True, epoch=1_700_000_000))
        work = workshop(engine, folder, Remembering())
        images[version] = (build(plan, workshop=work, wanted=goods.wanted, project=folder), lock)
    yield images
    for image, _ in images.values():
        for name in image.tags:
            engine.remove(name)


@pytest.fixture
def world(engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    uri = default_tracking_uri({}, tmp_path)
    progress = Remembering()

    def runs(wanted: str | None) -> MlflowRuns:
        return MlflowRuns(wanted or uri, environ=os.environ, note=progress.message)

    outbox = FileOutbox(tmp_path / "outbox")
    return SimpleNamespace(
        engine=engine,
        cwd=tmp_path,
        environ={},
        progress=progress,
        outbox=outbox,
        pushes=PushMemory(tmp_path / "pushes"),
        runs=runs,
    )


def record(reference: str, world: Any) -> tuple[Image, Record]:
    subject = read_subject(reference, Path("envlock.lock"), world=world)
    return subject.image, record_of(subject, spec=Path("envlock.yaml"))


def test_one_changed_pin_is_the_only_difference_of_two_images_two_runs_and_two_locks(
    built: Mapping[str, tuple[Image, Lock]], world: Any
) -> None:
    refs: dict[str, list[str]] = {}
    for version, (image, lock) in built.items():
        content = record(image.reference, world)[1]
        destination = destination_of(lock, run_id=None, experiment=None, world=world)
        run_id = send(content, destination, world=world)
        assert send(content, replace(destination, run_id=run_id), world=world) == run_id
        refs[version] = [image.reference, image.image_id, run_id, f"runs:/{run_id}"]
    verdict = "different: numpy 1.0 → 2.0 (major) is the only difference"
    for before, after in zip(refs["1.0"], refs["2.0"], strict=True):
        comparison = compare(environment_of(before, world=world), environment_of(after, world=world))
        assert comparison.verdict == verdict
        assert comparison.unknown == ()
    image, _, run, _ = refs["1.0"]
    assert compare(environment_of(image, world=world), environment_of(run, world=world)).same


def test_what_is_recorded_of_a_built_image(built: Mapping[str, tuple[Image, Lock]], world: Any) -> None:
    image, lock = built["1.0"]
    recorded, content = record(image.reference, world)
    assert recorded.installed == image.installed
    assert content.tags["envlock.image_id"] == image.image_id
    assert content.tags["envlock.git_commit"] == "a" * 40
    assert content.tags["envlock.git_dirty"] == "true"
    assert content.params["python_version"] == image.installed.reported["python"]
    assert content.artifacts["envlock/pip-freeze.txt"] == b"left-pad==1.0\nnumpy==1.0\n"
    assert b"numpy==1.0" in content.artifacts["envlock/requirements.txt"]
    assert lock.base.image_id in content.tags["envlock.base"]


def test_an_image_that_envlock_did_not_build(world: Any) -> None:
    with pytest.raises(InputError, match="was not built by envlock"):
        record(BASE, world)
    shown = environment_of(BASE, world=world)
    assert shown.python is not None
    assert shown.python.startswith("3.11.")
    assert "libc6" in (shown.apt or {})
    assert (shown.os or "").startswith("Debian")
