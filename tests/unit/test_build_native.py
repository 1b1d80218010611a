"""The order of things in a composed build, against an engine that only remembers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from envlock.build import Wishes, build
from envlock.build.ahead import Ahead
from envlock.errors import BuildFailed, DamagedLayer, EngineError, RegistryError, UsageError
from envlock.formats.oci_archive import Loadable, archive
from envlock.model.image import AUTHOR
from envlock.model.plan import Plan, Project
from envlock.model.spec import ImageOptions, ProjectFiles, Seeds
from envlock.plan import make_plan
from envlock.ports import Coming, Completed, EngineImage, EngineInfo, Loaded, Supplies
from tests.support.building import Goods
from tests.support.composing import BaseInRegistry, base_in_registry, lock_of, plan_of
from tests.support.layers import HERE
from tests.support.locks import make_deb
from tests.support.workshops import FakeBases, FakeLayouts, FakePublisher, make_workshop

NAME = "demo:env-"


@dataclass
class Loading:
    """An engine that takes images; ``done`` is what was asked of it, in order."""

    images: dict[str, EngineImage] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    done: list[tuple[str, ...]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def info(self) -> EngineInfo:
        return EngineInfo(version="1", platform="linux/amd64", storage="memory", mirrors=())

    def find(self, reference: str) -> EngineImage | None:
        named = {tag: found for found in self.images.values() for tag in found.tags}
        return self.images.get(reference) or named.get(reference)

    def labelled(self, label: str) -> list[EngineImage]:
        return [image for image in self.images.values() if label in image.labels]

    def load(self, image: Loadable, supplies: Supplies, *, progress) -> Loaded:
        image_id = image.image.image_id
        if image_id in self.images:
            return Loaded(id=image_id, sent=0, layers=0)
        self.done.append(("load",))
        sent = sum(map(len, archive(image, open_layer=supplies.open_layer)))
        config = json.loads(image.image.config)
        self.sent.append(sent)
        self.images[image_id] = EngineImage(
            id=image_id,
            tags=(),
            digests=(),
            diff_ids=image.image.diff_ids,
            platform=image.platform,
            env={},
            labels=config["config"]["Labels"],
            user=config["config"]["User"],
            workdir="",
            entrypoint=(),
            size=0,
            author=config["author"],
        )
        return Loaded(id=image_id, sent=sent, layers=len(image.image.layers))

    def load_early(self, coming: Coming, supplies: Supplies, *, progress) -> Loaded:
        for layer in coming.above:
            supplies.open_layer(layer).close()
        return self.load(coming.image(), supplies, progress=progress)

    @contextmanager
    def container(self, name: str, *, python: str) -> Iterator[Loading]:
        self.done.append(("container",))
        yield self

    def run(self, argv, **_: object) -> Completed:
        answer = {"version": HERE, "full": f"{HERE} (main)", "packages": self.packages}
        return Completed(exit_code=0, stdout=json.dumps(answer).encode(), stderr=b"")

    def remove(self, reference: str) -> None:
        self.done.append(("remove",))
        del self.images[reference]

    def tag(self, image_id: str, reference: str) -> None:
        self.done.append(("tag", reference))
        for key, found in self.images.items():
            self.images[key] = replace(found, tags=tuple(tag for tag in found.tags if tag != reference))
        found = self.images[image_id]
        self.images[image_id] = replace(found, tags=(*found.tags, reference))


@dataclass
class Bench:
    folder: Path
    engine: Loading | None
    base: BaseInRegistry = field(default_factory=base_in_registry)
    goods: Goods = field(default_factory=Goods)
    publisher: FakePublisher = field(default_factory=FakePublisher)
    layouts: FakeLayouts = field(default_factory=FakeLayouts)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bases = FakeBases(self.base)
        parts = {"bases": self.bases, "publisher": self.publisher, "layouts": self.layouts}
        self.workshop = make_workshop(self.folder, self.engine, **parts)

    def plan(self, *wheels: str, project: Project | None = None, **overrides: Any) -> Plan:
        made = tuple(self.goods.wheel(*wheel.split("==")) for wheel in wheels)
        values: dict[str, Any] = {
            "debs": (),
            "wheels": made,
            "seeds": Seeds(),
            "project": ProjectFiles(),
            "image": ImageOptions(repository="demo"),
        }
        lock = lock_of(self.base, **{**values, **overrides})
        lock = replace(lock, base=replace(lock.base, python=replace(lock.base.python, version=HERE)))
        if self.engine is not None:
            self.engine.packages = dict(wheel.split("==") for wheel in wheels)
        return plan_of(lock, project)

    def build(self, plan: Plan, **wishes: Any):
        return build(
            plan,
            workshop=self.workshop,
            wanted=self.goods.wanted,
            project=self.folder,
            wishes=Wishes(**wishes),
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Loading())


def test_an_image_is_loaded_looked_into_and_named(bench: Bench) -> None:
    plan = bench.plan("one==1.0", "two==2.0")
    made = bench.build(plan, tags=("v1",))
    assert bench.engine is not None
    name = f"demo:{plan.tag}"
    assert bench.engine.done == [("load",), ("container",), ("tag", "demo:v1"), ("tag", name)]
    assert (made.reference, made.reused) == (name, False)
    assert made.installed.packages == {"one": "1.0", "two": "2.0"}
    assert bench.engine.images[made.image_id].author == AUTHOR
    assert list(made.seconds) == ["layers", "load", "inspect", "tag"]


def test_the_second_time_there_is_nothing_to_do(bench: Bench) -> None:
    plan = bench.plan("one==1.0")
    first = bench.build(plan)
    assert bench.engine is not None
    bench.engine.done.clear()
    again = bench.build(plan, tags=("v2",))
    assert bench.engine.done == [("tag", "demo:v2")]
    assert (again.image_id, again.reused, again.installed) == (first.image_id, True, first.installed)
    assert bench.bases.asked == ["skeleton", "warm"]  # both the first time


def test_another_commit_is_another_configuration_of_the_same_layers(bench: Bench) -> None:
    first = bench.build(bench.plan("one==1.0"))
    second = bench.build(bench.plan("one==1.0", project=Project(revision="c" * 40, epoch=1_700_000_000)))
    assert bench.engine is not None
    assert first.image_id != second.image_id
    one, two = (bench.engine.images[image.image_id].diff_ids for image in (first, second))
    assert one == two
    assert bench.bases.asked == ["skeleton", "warm"]


def test_without_a_record_nobody_has_to_look_into_the_image(bench: Bench) -> None:
    made = bench.build(bench.plan("one==1.0"), inspect=False)
    assert bench.engine is not None
    assert ("container",) not in bench.engine.done
    assert made.installed.packages == {"one": "1.0"}
    assert made.installed.freeze == "one==1.0\n"


def test_an_image_with_other_packages_gets_no_name(bench: Bench) -> None:
    plan = bench.plan("one==1.0")
    assert bench.engine is not None
    bench.engine.packages = {"one": "1.0", "intruder": "6"}
    with pytest.raises(BuildFailed) as caught:
        bench.build(plan)
    assert caught.value.details == ("intruder: not in the lock, 6 in the image",)
    assert bench.engine.done == [("load",), ("container",), ("remove",)]
    assert bench.engine.images == {}


def test_what_the_engine_made_of_an_interrupted_build_goes_with_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = bench.engine
    assert engine is not None
    load_early = Loading.load_early

    def interrupted(self: Loading, *arguments: Any, **more: Any) -> Loaded:
        load_early(self, *arguments, **more)
        raise KeyboardInterrupt

    load = Ahead.load

    def interrupted_load(self: Ahead, image: Loadable) -> Loaded:
        load(self, image)
        raise KeyboardInterrupt

    monkeypatch.setattr(Loading, "load_early", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        bench.build(bench.plan("one==1.0"))
    assert any("a later build" in note for note in caught.value.__notes__)
    monkeypatch.undo()
    assert len(engine.images) == 1
    made = bench.build(bench.plan("one==2.0"))
    assert list(engine.images) == [made.image_id]
    # Another commit of an environment that has an image is an image of its own.
    monkeypatch.setattr(Ahead, "load", interrupted_load)
    with pytest.raises(KeyboardInterrupt):
        bench.build(bench.plan("one==2.0", project=Project(revision="c" * 40, epoch=1_700_000_000)))
    monkeypatch.undo()
    assert len(engine.images) == 2
    bench.build(bench.plan("one==2.0"))
    assert list(engine.images) == [made.image_id]


def test_a_damaged_layer_is_made_again(bench: Bench) -> None:
    plan = bench.plan("one==1.0")
    bench.build(plan)
    store = bench.workshop.store
    layer = next(layer for layer, _ in store.layers.kept() if layer.title == "one 1.0")
    path = store.layers.path(layer.key)
    content = path.read_bytes()
    other = Bench(bench.folder, Loading(), base=bench.base, goods=bench.goods)
    again = other.plan("one==1.0")
    # Behind the store's back: same size, same times.
    times = path.stat()
    path.write_bytes(content.replace(b"one", b"eno"))
    import os

    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    made = other.build(again)
    assert other.engine is not None
    assert made.image_id in other.engine.images
    assert path.read_bytes() == content
    assert any("making it again" in text for text in other.workshop.progress.messages)  # type: ignore[attr-defined]


def test_a_layer_that_stays_damaged_is_an_error(bench: Bench) -> None:
    bench.publisher.failing = [DamagedLayer("again", key="k" * 64), DamagedLayer("again", key="k" * 64)]
    with pytest.raises(DamagedLayer):
        bench.build(bench.plan("one==1.0"), push=True, tags=("registry.example.org/a:1",))


def test_push_takes_the_names_that_have_a_registry(bench: Bench) -> None:
    made = bench.build(bench.plan("one==1.0"), push=True, tags=("v1", "registry.example.org/team/demo:v1"))
    assert bench.publisher.pushed == [("registry.example.org/team/demo:v1",)]
    assert made.pushed == "registry.example.org/team/demo:v1"
    assert made.manifest_digest is not None


def test_a_push_that_fails_leaves_the_image(bench: Bench) -> None:
    bench.publisher.failing = [RegistryError("no")]
    plan = bench.plan("one==1.0")
    with pytest.raises(RegistryError):
        bench.build(plan, push=True, tags=("registry.example.org/a:1",))
    assert bench.engine is not None
    assert bench.engine.find(f"demo:{plan.tag}")


def test_no_engine_has_the_same_image(bench: Bench, tmp_path: Path) -> None:
    made = bench.build(bench.plan("one==1.0"), layout=tmp_path / "first.tar")
    alone = Bench(tmp_path / "alone", None, base=bench.base, goods=bench.goods)
    again = alone.build(alone.plan("one==1.0"), layout=tmp_path / "image.tar")
    assert again.image_id == made.image_id
    assert alone.layouts.written == [(made.image_id, tmp_path / "image.tar")]
    assert again.manifest_digest == made.manifest_digest


def test_without_an_engine_the_image_has_to_go_somewhere(tmp_path: Path) -> None:
    alone = Bench(tmp_path, None)
    with pytest.raises(UsageError, match="has to go somewhere else"):
        alone.build(alone.plan("one==1.0"))
    with pytest.raises(EngineError, match="--plain builds with a container engine"):
        alone.build(alone.plan("one==1.0"), plain=True)


def test_system_packages_need_an_engine_once(tmp_path: Path) -> None:
    alone = Bench(tmp_path, None)
    with pytest.raises(EngineError, match="2 system packages have to be installed") as caught:
        alone.build(alone.plan("one==1.0", debs=(make_deb("a"), make_deb("b"))), layout=tmp_path / "x.tar")
    assert "--cache-from" in caught.value.hint


def test_who_asked_for_the_packages_does_not_decide_the_digest(bench: Bench, tmp_path: Path) -> None:
    # The layer is the same for both locks, and its title is in the history.
    from envlock.compose import SystemPackages

    debs = (make_deb("git", requested=True), make_deb("curl"))
    plan = bench.plan("one==1.0", debs=debs)
    titles = []
    for asked in (debs, tuple(replace(deb, requested=not deb.requested) for deb in debs)):
        packages = SystemPackages(base=plan.base, debs=asked)
        with bench.workshop.store.layers.making(packages.key) as making:
            if not making.found:
                making.file.write(bytes(1024))
                import hashlib

                digest = hashlib.sha256(bytes(1024)).hexdigest()
                making.keep(diff_id=f"sha256:{digest}", size=1024, title=packages.title)
        lock = replace(plan.lock, debs=asked)
        made = bench.build(make_plan(lock, Project(), fingerprint="ab" * 32, lock_text=""), inspect=False)
        titles.append((made.image_id, packages.title))
    other = Bench(tmp_path / "other", Loading(), base=bench.base, goods=bench.goods)
    with other.workshop.store.layers.making(packages.key) as making:
        making.file.write(bytes(1024))
        making.keep(diff_id=f"sha256:{digest}", size=1024, title=packages.title)
    alone = other.build(make_plan(lock, Project(), fingerprint="ab" * 32, lock_text=""), inspect=False)
    assert titles[0][1] != titles[1][1]
    assert alone.image_id == titles[1][0]
