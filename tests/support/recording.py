"""Records, runs and stores for the tests of recording."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from envlock.errors import InputError, TrackingError
from envlock.formats.environments import environment_of_lock, environment_of_notes, with_run
from envlock.formats.listings import LISTINGS
from envlock.formats.lock_json import dump_lock, fingerprint, load_lock
from envlock.model.environment import Environment
from envlock.model.image import Image, Installed
from envlock.model.lock import Lock
from envlock.model.plan import ImageConfig, Plan, Project
from envlock.model.record import Destination, Record
from envlock.record import make_record
from tests.support.locks import make_lock


def make_plan(lock: Lock, **overrides: Any) -> Plan:
    config = ImageConfig(
        env=lock.env, user="envlock", uid=1000, workdir="/workspace", entrypoint=(), labels={"org.example.team": "a"}
    )
    project = Project(revision="a" * 40, dirty=True, version="v1")
    plan = Plan(lock=lock, fingerprint=fingerprint(lock), base=lock.base, layers=(), config=config, project=project)
    return replace(plan, **overrides)


def make_image(lock: Lock, **overrides: Any) -> Image:
    packages = {wheel.name: wheel.version for wheel in lock.wheels}
    freeze = "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))
    image = Image(
        reference=f"demo:env-{fingerprint(lock)[:12]}",
        tags=(f"demo:env-{fingerprint(lock)[:12]}", "demo:latest"),
        image_id="sha256:" + "1" * 64,
        fingerprint=fingerprint(lock),
        installed=Installed(python_version=lock.base.python.version, packages=packages, freeze=freeze),
    )
    return replace(image, **overrides)


def record_of(lock: Lock | None = None, *, spec: bytes | None = b"name: demo\n", **image: Any) -> Record:
    lock = lock or make_lock()
    return make_record(
        image=make_image(lock, **image),
        plan=make_plan(lock),
        lock_bytes=dump_lock(lock).encode(),
        spec_bytes=spec,
        dockerfile="FROM scratch\n",
        requirements="numpy==2.1.0 --hash=sha256:00\n",
    )


@dataclass
class FakeRun:
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    deleted: bool = False


class FakeRunStore:
    """A run store in memory that behaves as MLflow does; ``fail`` makes it unreachable."""

    def __init__(self, note: Callable[[str], None] = lambda _: None) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.fail: Callable[[Destination], None] = lambda _: None
        self.asked = 0
        self._note = note
        self._numbers = itertools.count(1)

    def new_run(self, params: Mapping[str, str] | None = None, artifacts: Mapping[str, bytes] | None = None) -> str:
        run_id = f"{next(self._numbers):032x}"
        self.runs[run_id] = FakeRun(params=dict(params or {}), artifacts=dict(artifacts or {}))
        return run_id

    def deliver(self, record: Record, destination: Destination, *, key: str) -> str:
        self.asked += 1
        self.fail(destination)
        run_id = destination.run_id
        if run_id is None:
            known = (run_id for run_id, run in self.runs.items() if run.tags.get("envlock.record_key") == key)
            run_id = next(known, None) or self.new_run()
            self.runs[run_id].tags["envlock.record_key"] = key
        run = self._run(run_id)
        if run.deleted:
            raise InputError(f"run {run_id} is deleted")
        run.artifacts.update(record.artifacts)
        for name, value in record.params.items():
            if run.params.setdefault(name, value) != value:
                self._note(f"run {run_id} has {name} already")
                run.tags[f"envlock.{name}"] = value
        run.tags.update(record.tags)
        return run_id

    def environment(self, run_id: str, *, title: str) -> Environment:
        self.fail(Destination())
        run = self._run(run_id)
        lock = run.artifacts.get("envlock/envlock.lock")
        if lock is not None:
            return with_run(environment_of_lock(load_lock(lock), title=title), params=run.params, tags=run.tags)
        names = {path.rpartition("/")[2]: content for path, content in run.artifacts.items()}
        listing = next((LISTINGS[name](names[name].decode()) for name in LISTINGS if name in names), None)
        return environment_of_notes(title=title, params=run.params, tags=run.tags, listing=listing)

    def artifact(self, run_id: str, path: str) -> bytes | None:
        return self._run(run_id).artifacts.get(path)

    def _run(self, run_id: str) -> FakeRun:
        if run_id not in self.runs:
            raise InputError(f"there is no run {run_id}")
        return self.runs[run_id]


def unreachable(destination: Destination) -> None:
    raise TrackingError(f"MLflow at {destination.tracking_uri} cannot be reached", hint="check it")
