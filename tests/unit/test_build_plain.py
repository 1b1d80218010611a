"""The order of things in a build with the engine's builder, against an engine that only remembers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from envlock.adapters.image_readings import ImageReadings
from envlock.build import Wishes, build, references
from envlock.errors import BuildFailed, EngineError, RegistryError, UsageError
from envlock.model.plan import Plan, Project
from envlock.model.spec import ImageOptions
from envlock.plan import make_plan
from envlock.ports import Completed, EngineImage
from tests.support.locks import make_base, make_lock, make_wheel
from tests.support.workshops import NO_FILES, make_workshop

BUILT = "sha256:" + "b" * 64
LOCK = make_lock(
    debs=(), wheels=(make_wheel("numpy", "2.1.0"),), image=ImageOptions(repository="demo", tags=("latest",))
)


def plan_of(lock=LOCK, **project: Any) -> Plan:
    return make_plan(lock, Project(**project), fingerprint="ab" * 32, lock_text="")


def image(image_id: str, *tags: str, labels: Mapping[str, str] | None = None) -> EngineImage:
    return EngineImage(
        id=image_id,
        tags=tags,
        digests=(),
        diff_ids=(),
        platform="linux/amd64",
        env={},
        labels=labels or {},
        user="",
        workdir="",
        entrypoint=(),
        size=0,
    )


@dataclass
class Remembered:
    """Engine, container and store in one; ``done`` is what was asked of it, in order."""

    images: dict[str, EngineImage] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=lambda: {"numpy": "2.1.0"})
    done: list[tuple[str, ...]] = field(default_factory=list)
    labels: Mapping[str, str] = field(default_factory=dict)
    failing: Mapping[str, BaseException] = field(default_factory=dict)

    def _do(self, *what: str) -> None:
        self.done.append(what)
        if what[0] in self.failing:
            raise self.failing[what[0]]

    def find(self, reference: str) -> EngineImage | None:
        named = {tag: found for found in self.images.values() for tag in found.tags}
        return self.images.get(reference) or named.get(reference)

    def pull(self, reference: str, **_: object) -> EngineImage:
        self._do("pull", reference)
        return image("x")

    def build(self, context, *, platform: str, on_line) -> str:
        self._do("build", context.read().split(b"AS base")[0].rpartition(b"\n")[2].decode().strip())
        self.images[BUILT] = image(BUILT, labels=self.labels)
        return BUILT

    @contextmanager
    def container(self, name: str, *, python: str) -> Iterator[Remembered]:
        self._do("container", name)
        yield self

    def run(self, argv, **_: object) -> Completed:
        answer = {"version": "3.11.2", "full": "3.11.2 (main)", "packages": self.packages}
        return Completed(exit_code=0, stdout=json.dumps(answer).encode(), stderr=b"")

    def tag(self, image_id: str, reference: str) -> None:
        self._do("tag", reference)
        found = self.images[image_id]
        self.images[image_id] = replace(found, tags=(*found.tags, reference))

    def remove(self, reference: str) -> None:
        self._do("remove", reference)
        del self.images[reference]

    def push(self, reference: str, **_: object) -> str:
        self._do("push", reference)
        return "sha256:pushed-" + reference

    def fetch(self, wanted, *, progress) -> dict[str, Path]:
        self._do("fetch")
        return {wheel.sha256: Path(__file__) for wheel in (*LOCK.wheels, LOCK.installer)}


@pytest.fixture
def make(tmp_path):
    def run(engine: Remembered, plan: Plan | None = None, **options: Any):
        workshop = make_workshop(tmp_path, engine, artifacts=engine)
        wishes = Wishes(plain=True, **options)
        return build(plan or plan_of(), workshop=workshop, wanted=lambda: NO_FILES, project=tmp_path, wishes=wishes)

    return run


def with_base() -> dict[str, EngineImage]:
    return {LOCK.base.pinned: image("sha256:base")}


def test_the_image_has_a_name_only_after_it_was_checked(make):
    engine = Remembered(images=with_base())
    made = make(engine, tags=("v1", "example.org/other:v2"))
    assert engine.done == [
        ("fetch",),
        ("build", f"FROM {LOCK.base.pinned}"),
        ("container", BUILT),
        ("tag", "example.org/other:v2"),
        ("tag", "demo:v1"),
        ("tag", "demo:latest"),
        ("tag", "demo:env-abababababab"),
    ]
    assert (made.reference, made.image_id, made.reused) == ("demo:env-abababababab", BUILT, False)
    assert made.tags == ("demo:env-abababababab", "demo:latest", "demo:v1", "example.org/other:v2")
    assert list(made.seconds) == ["base", "fetch", "build", "verify", "tag"]


def test_the_base_is_pulled_by_digest_where_it_is_not_there(make):
    engine = Remembered()
    make(engine)
    assert engine.done[0] == ("pull", LOCK.base.pinned)


def test_the_base_under_no_name_is_used_as_it_is(make):
    engine = Remembered(images={LOCK.base.image_id: image(LOCK.base.image_id)})
    make(engine)
    assert engine.done[:2] == [("fetch",), ("build", f"FROM {LOCK.base.image_id}")]


def test_a_local_base_has_to_be_there(make):
    plan = plan_of(replace(LOCK, base=make_base(manifest_digest=None, repository="")))
    with pytest.raises(EngineError, match=r"in no registry, and this engine does not have it$"):
        make(Remembered(), plan)
    other = Remembered(images={"sha256:" + "c" * 64: image("sha256:" + "c" * 64, plan.base.reference)})
    with pytest.raises(EngineError, match=r"is another image, sha256:cccccccccccc$"):
        make(other, plan)


def test_nothing_to_do(make):
    engine = Remembered(images=with_base(), labels=plan_of().config.labels)
    first = make(engine)
    engine.done.clear()
    again = make(engine, tags=("v3",))
    assert engine.done == [("tag", "demo:v3")]
    assert again.reused
    assert again.installed == first.installed


def test_an_image_that_somebody_else_built_is_looked_into_once(make):
    name = "demo:env-abababababab"
    engine = Remembered(images={BUILT: image(BUILT, name, "demo:latest", labels=plan_of().config.labels)})
    assert make(engine).installed.packages == {"numpy": "2.1.0"}
    make(engine)
    assert engine.done == [("container", BUILT)]


@pytest.mark.parametrize("project", [{"revision": "c" * 40}, {"epoch": 1}, {"version": "v1"}])
def test_another_state_of_the_project_is_built(make, project):
    engine = Remembered(images=with_base(), labels=plan_of().config.labels)
    make(engine)
    assert not make(engine, plan_of(**project)).reused


def test_an_image_with_other_packages_is_removed(make):
    engine = Remembered(images=with_base(), packages={"numpy": "1.0"})
    with pytest.raises(BuildFailed) as caught:
        make(engine)
    assert caught.value.details == ("numpy: 2.1.0 in the lock, 1.0 in the image",)
    assert engine.done[-1] == ("remove", BUILT)
    assert BUILT not in engine.images


@pytest.mark.parametrize("failing", [KeyboardInterrupt(), EngineError("gone")])
@pytest.mark.parametrize("step", ["container", "tag"])
def test_whatever_happens_before_the_first_name_the_image_is_removed(make, failing, step):
    engine = Remembered(images=with_base(), failing={step: failing})
    with pytest.raises(type(failing)):
        make(engine)
    assert BUILT not in engine.images


def test_an_image_that_had_a_name_before_is_not_removed(make):
    class Cached(Remembered):
        def build(self, context, **options):
            made = super().build(context, **options)
            self.images[made] = image(made, "somebody:elses")
            return made

    engine = Cached(images=with_base(), packages={})
    with pytest.raises(BuildFailed):
        make(engine)
    assert engine.find("somebody:elses")


PUBLISHED = "registry.example.org/team/demo:v1"


def test_push_takes_the_names_that_have_a_registry(make):
    engine = Remembered(images=with_base())
    made = make(engine, push=True, tags=(PUBLISHED,))
    assert [what for what in engine.done if what[0] == "push"] == [("push", PUBLISHED)]
    assert made.manifest_digest == f"sha256:pushed-{PUBLISHED}"
    assert made.pushed == PUBLISHED
    assert "push" in made.seconds


def test_a_push_to_nowhere_is_refused_before_anything_is_built(make):
    engine = Remembered(images=with_base())
    with pytest.raises(UsageError, match="names no registry to push to"):
        make(engine, push=True)
    assert engine.done == []


def test_a_push_that_fails_leaves_the_image(make):
    engine = Remembered(images=with_base(), failing={"push": RegistryError("no")})
    with pytest.raises(RegistryError):
        make(engine, push=True, tags=(PUBLISHED,))
    assert engine.find("demo:env-abababababab")


@pytest.mark.parametrize("tag", ["", "-x", "a b", "a;b", "v1\n", "a/b", "x@sha256:" + "0" * 64, "a:b:c", "$x"])
def test_impossible_tags(tag):
    with pytest.raises(UsageError, match="neither a tag nor an image reference"):
        references(plan_of(), [tag])


def test_names_are_not_repeated():
    assert references(plan_of(), ["latest", "demo:latest", "127.0.0.1:5000/a:1"]) == (
        "demo:env-abababababab",
        "demo:latest",
        "127.0.0.1:5000/a:1",
    )


def test_readings_that_are_broken_are_not_there(tmp_path):
    readings = ImageReadings(tmp_path / "file")
    (tmp_path / "file").write_text("not a folder")
    readings.put(BUILT, make_installed())
    assert readings.get(BUILT) is None
    readings = ImageReadings(tmp_path / "folder")
    readings.put(BUILT, make_installed())
    assert readings.get(BUILT) == make_installed()
    (tmp_path / f"folder/{'b' * 64}.json").write_text("{")
    assert readings.get(BUILT) is None


def make_installed():
    from envlock.model.image import Installed

    return Installed(python_version="3.11.2", packages={"a": "1"}, freeze="a==1\n", reported={"python": "x"})
