"""Handing the engine what is there of an image while the rest is being made."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pytest

from envlock.build.ahead import STAGE_LABEL, Ahead
from envlock.compose import compose
from envlock.errors import DamagedLayer, EngineError, InputError
from envlock.formats.oci_archive import Loadable, loadable
from envlock.model.layers import StoredLayer
from envlock.model.plan import FINGERPRINT_LABEL
from envlock.ports import Coming, EngineImage, Loaded, Supplies
from tests.support.composing import base_in_registry, lock_of, plan_of
from tests.support.images import make_engine_image
from tests.support.progress import Remembering

BASE = base_in_registry()
LARGE = 100 << 20


def layer(name: str, size: int = LARGE) -> StoredLayer:
    return StoredLayer(key=name, diff_id=f"sha256:{name * 64}"[:71], size=size, title=name)


@dataclass
class Loading:
    """An engine that lacks everything that it was not given."""

    stages: list[tuple[str, ...]] = field(default_factory=list)  # titles of the layers of each
    images: list[tuple[str, ...]] = field(default_factory=list)
    early: list[str] = field(default_factory=list)  # titles of the layers that came before the image was known
    removed: list[str] = field(default_factory=list)
    near: list[tuple[str, ...]] = field(default_factory=list)
    loaded: threading.Event = field(default_factory=threading.Event)
    old: list[EngineImage] = field(default_factory=list)
    error: Exception | None = None
    refusal: Exception | None = None  # of a whole image

    def lacks(self, image: Loadable) -> int:
        known = {title for stage in self.stages for title in stage}
        return sum(layer.size for layer in image.image.layers if layer.title not in known)

    def labelled(self, label: str) -> Sequence[EngineImage]:
        assert label == STAGE_LABEL
        return self.old

    def load(self, image: Loadable, supplies: Supplies, *, progress: Any) -> Loaded:
        self.near.append(supplies.near)
        stage = STAGE_LABEL in image.image.labels
        try:
            if self.error is not None and stage:
                raise self.error
            for one in image.image.layers:
                supplies.open_layer(one).close()
        finally:
            self.loaded.set()
        done = self.stages if stage else self.images
        done.append(titles(image))
        return Loaded(id=f"{'stage' if stage else 'image'} {len(done)}", sent=1, layers=1)

    def load_early(self, coming: Coming, supplies: Supplies, *, progress: Any) -> Loaded:
        try:
            if self.error is not None:
                raise self.error
            for one in coming.above:
                supplies.open_layer(one).close()
                self.early.append(one.title)
        finally:
            self.loaded.set()
        whole = coming.image()
        if self.refusal is not None:
            raise self.refusal
        assert titles(whole)[: len(titles(coming.below))] == titles(coming.below)
        self.images.append(titles(whole))
        return Loaded(id=f"early {len(self.images)}", sent=1, layers=1)

    def remove(self, reference: str) -> None:
        self.removed.append(reference)


def titles(image: Loadable) -> tuple[str, ...]:
    return tuple(layer.title for layer in image.image.layers)


def image_with(names: str) -> Loadable:
    image = compose(plan_of(lock_of(BASE)), [layer(name) for name in names], base_config=BASE.config)
    return loadable(image, platform="linux/amd64")


def ahead_of(engine: Loading, *, opened: Any = None, before: EngineImage | None = None) -> Ahead:
    def open_layer(_: StoredLayer) -> IO[bytes]:
        if opened:
            opened()
        return io.BytesIO()

    return Ahead(
        plan_of(lock_of(BASE)),
        engine,  # type: ignore[arg-type]
        Supplies(open_layer=open_layer),
        loadable=lambda image: loadable(image, platform="linux/amd64"),
        before=lambda: before,
        progress=Remembering(),
    )


def test_what_is_there_is_loaded_while_the_next_takes_its_time() -> None:
    engine = Loading()
    with ahead_of(engine) as ahead:
        ahead.reached(BASE.config, [layer("a")])
        assert engine.loaded.wait(20)
        engine.loaded.clear()
        ahead.reached(BASE.config, [layer("a"), layer("b"), layer("c")])
        assert engine.loaded.wait(20)
        assert ahead.load(image_with("abcd")).id == "image 1"
        assert engine.removed == []
    assert engine.stages == [("a",), ("a", "b", "c")]
    assert engine.near == [(), ("stage 1",), ("stage 1", "stage 2")]
    assert engine.removed == ["stage 1", "stage 2"]


def test_layers_that_come_at_once_go_with_the_image_itself() -> None:
    engine = Loading()
    with ahead_of(engine) as ahead:
        for count in range(1, 5):
            ahead.reached(BASE.config, [layer(name) for name in "abcd"[:count]])
        ahead.load(image_with("abcd"))
    assert engine.stages == engine.removed == []
    assert engine.near == [()]


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_little_is_not_worth_a_stage(size: int) -> None:
    engine = Loading()
    with ahead_of(engine) as ahead:
        ahead.reached(BASE.config, [layer("a", size)])
        time.sleep(0.7)
        ahead.reached(BASE.config, [layer("a", size), layer("b", size)])
    assert engine.stages == []


def test_what_the_engine_has_is_not_worth_a_stage() -> None:
    engine = Loading(stages=[("a",)])
    with ahead_of(engine) as ahead:
        ahead.reached(BASE.config, [layer("a")])
        time.sleep(0.7)
    assert engine.stages == [("a",)]


def test_a_stage_that_fails_is_left_to_the_image_itself() -> None:
    engine = Loading(error=EngineError("the disk is full"))
    with ahead_of(engine) as ahead:
        ahead.reached(BASE.config, [layer("a")])
        assert engine.loaded.wait(20)
        ahead.reached(BASE.config, [layer("a"), layer("b")])
        assert ahead.load(image_with("abc")).id == "image 1"


def test_a_bug_is_not_hidden() -> None:
    engine = Loading(error=ZeroDivisionError())

    def build() -> None:
        with ahead_of(engine) as ahead:
            ahead.reached(BASE.config, [layer("a")])
            assert engine.loaded.wait(20)

    with pytest.raises(ZeroDivisionError):
        build()


def test_a_build_that_ends_early_stops_the_stage() -> None:
    engine = Loading()
    started, ended = threading.Event(), threading.Event()

    def opened() -> None:
        started.set()
        assert ended.wait(20)

    def interrupted() -> None:
        with ahead_of(engine, opened=opened) as ahead:
            ahead.reached(BASE.config, [layer("a"), layer("b"), layer("c")])
            assert started.wait(20)
            threading.Timer(0.3, ended.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert engine.stages == []  # the second layer was refused


# --- what lies above a layer that is being made -----------------------------------------------------------------------


def test_what_lies_above_a_changed_layer_goes_ahead_of_it() -> None:
    engine = Loading()
    with ahead_of(engine) as ahead:
        ahead.outlook(BASE.config, [layer("a"), None, layer("c"), layer("d")])
        assert engine.loaded.wait(20)
        assert (engine.early, engine.images) == (["c", "d"], [])
        ahead.reached(BASE.config, [layer("a"), layer("b")])
        assert ahead.load(image_with("abcde")).id == "early 1"
    assert engine.images == [tuple("abcde")]
    assert engine.stages == engine.removed == []


def test_where_much_is_new_the_lowest_layers_go_ahead() -> None:
    engine = Loading()
    with ahead_of(engine) as ahead:
        ahead.outlook(BASE.config, [layer("a"), None, None, None, None, layer("f")])
        ahead.reached(BASE.config, [layer("a")])
        assert engine.loaded.wait(20)
        assert ahead.load(image_with("abcdef")).id == "image 1"
    assert (engine.stages, engine.early) == ([("a",)], [])


@pytest.mark.parametrize(
    "layers",
    [[None, None], [layer("a"), None, None], [None, layer("b"), layer("c")]],
    ids=["all", "top", "there before"],
)
def test_nothing_goes_ahead_where_it_would_not_help(layers: list[StoredLayer | None]) -> None:
    engine = Loading()
    before = make_engine_image(id="before") if len(layers) == 3 and layers[0] is None else None
    with ahead_of(engine, before=before) as ahead:
        ahead.outlook(BASE.config, layers)
        assert ahead.load(image_with("abc")).id == "image 1"
    assert engine.near == [("before",) if before else ()]


def test_what_fails_ahead_is_tried_again_with_the_image() -> None:
    engine = Loading(error=EngineError("it restarts"))
    with ahead_of(engine) as ahead:
        ahead.outlook(BASE.config, [None, layer("b")])
        assert engine.loaded.wait(20)
        time.sleep(0.3)  # its thread ends
        assert ahead.load(image_with("ab")).id == "image 1"


def test_a_damaged_layer_is_told() -> None:
    engine = Loading(error=DamagedLayer("it changed", key="b"))
    with ahead_of(engine) as ahead:
        ahead.outlook(BASE.config, [None, layer("b")])
        with pytest.raises(DamagedLayer):
            ahead.load(image_with("ab"))


def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envlock.build.ahead._FRESH", 0)
    engine = Loading()
    with ahead_of(engine) as ahead:
        ahead.outlook(BASE.config, [None, layer("b")])
        assert ahead.load(image_with("ab")).id == "image 1"


def test_what_the_engine_refuses_is_not_sent_twice() -> None:
    engine = Loading(refusal=EngineError("the disk is full"))
    with ahead_of(engine) as ahead:
        ahead.outlook(BASE.config, [None, layer("b")])
        with pytest.raises(EngineError, match="full"):
            ahead.load(image_with("ab"))
    assert engine.images == []


def test_a_build_that_fails_gives_up_what_went_ahead() -> None:
    engine = Loading()

    def failing() -> None:
        with ahead_of(engine) as ahead:
            ahead.outlook(BASE.config, [None, layer("b")])
            assert engine.loaded.wait(20)
            raise InputError("a bad wheel")

    with pytest.raises(InputError):
        failing()
    assert engine.images == []
    assert not [thread for thread in threading.enumerate() if thread.name == "load early"]


def test_ctrl_c_does_not_wait_for_the_engine_s_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envlock.build.ahead._GRACE", 0.1)
    answer = threading.Event()
    engine = Loading()

    def interrupted() -> None:
        with ahead_of(engine, opened=lambda: answer.wait(20)) as ahead:
            ahead.outlook(BASE.config, [None, layer("b")])
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 10
    answer.set()


def test_stages_of_builds_that_were_killed_are_removed() -> None:
    old, now, fingerprint = "1600000000", str(int(time.time())), plan_of(lock_of(BASE)).fingerprint
    engine = Loading(
        old=[
            make_engine_image(id="old", labels={STAGE_LABEL: old}, tags=()),
            make_engine_image(id="fresh", labels={STAGE_LABEL: now}, tags=()),
            make_engine_image(id="named", labels={STAGE_LABEL: old}, tags=("somebody:1",)),
            make_engine_image(id="odd", labels={STAGE_LABEL: "x"}, tags=()),
            make_engine_image(id="ours", labels={STAGE_LABEL: now, FINGERPRINT_LABEL: fingerprint}, tags=()),
        ]
    )
    with ahead_of(engine) as ahead:
        ahead.forget_abandoned()
    assert engine.removed == ["old", "ours"]
