"""Loading the first layers while the last are being made."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pytest

from envlock.build.ahead import STAGE_LABEL, Ahead
from envlock.errors import EngineError
from envlock.formats.oci_archive import Loadable, loadable
from envlock.model.layers import StoredLayer
from envlock.model.plan import FINGERPRINT_LABEL
from envlock.ports import EngineImage, Loaded, Supplies
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
    removed: list[str] = field(default_factory=list)
    near: list[tuple[str, ...]] = field(default_factory=list)
    loaded: threading.Event = field(default_factory=threading.Event)
    old: list[EngineImage] = field(default_factory=list)
    error: Exception | None = None
    reading: threading.Event = field(default_factory=threading.Event)

    def lacks(self, image: Loadable) -> int:
        known = {title for stage in self.stages for title in stage}
        return sum(layer.size for layer in image.image.layers if layer.title not in known)

    def labelled(self, label: str) -> Sequence[EngineImage]:
        assert label == STAGE_LABEL
        return self.old

    def load(self, image: Loadable, supplies: Supplies, *, progress: Any) -> Loaded:
        assert STAGE_LABEL in image.image.labels
        self.near.append(supplies.near)
        if self.error is not None:
            self.loaded.set()
            raise self.error
        for one in image.image.layers:
            supplies.open_layer(one).close()
        self.stages.append(tuple(one.title for one in image.image.layers))
        self.loaded.set()
        return Loaded(id=f"stage {len(self.stages)}", sent=1, layers=1)

    def remove(self, reference: str) -> None:
        self.removed.append(reference)


def ahead_of(engine: Loading, *, opened: Any = None) -> Ahead:
    def open_layer(_: StoredLayer) -> IO[bytes]:
        if opened:
            opened()
        return io.BytesIO()

    return Ahead(
        plan_of(lock_of(BASE)),
        engine,  # type: ignore[arg-type]
        Supplies(open_layer=open_layer),
        loadable=lambda image: loadable(image, platform="linux/amd64"),
        progress=Remembering(),
    )


def test_what_is_there_is_loaded_while_the_next_takes_its_time() -> None:
    engine = Loading()
    with ahead_of(engine) as ahead:
        ahead(BASE.config, [layer("a")])
        assert engine.loaded.wait(20)
        engine.loaded.clear()
        ahead(BASE.config, [layer("a"), layer("b"), layer("c")])
        assert engine.loaded.wait(20)
        assert ahead.finish() == ("stage 1", "stage 2")
        assert engine.removed == []
    assert engine.stages == [("a",), ("a", "b", "c")]
    assert engine.near == [(), ("stage 1",)]
    assert engine.removed == ["stage 1", "stage 2"]


def test_layers_that_come_at_once_go_with_the_image_itself() -> None:
    engine = Loading()
    with ahead_of(engine) as ahead:
        for count in range(1, 5):
            ahead(BASE.config, [layer(name) for name in "abcd"[:count]])
        assert ahead.finish() == ()
    assert engine.stages == engine.removed == []


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_little_is_not_worth_a_stage(size: int) -> None:
    engine = Loading()
    with ahead_of(engine) as ahead:
        ahead(BASE.config, [layer("a", size)])
        time.sleep(0.7)
        ahead(BASE.config, [layer("a", size), layer("b", size)])
    assert engine.stages == []


def test_what_the_engine_has_is_not_worth_a_stage() -> None:
    engine = Loading(stages=[("a",)])
    with ahead_of(engine) as ahead:
        ahead(BASE.config, [layer("a")])
        time.sleep(0.7)
    assert engine.stages == [("a",)]


def test_a_stage_that_fails_is_left_to_the_image_itself() -> None:
    engine = Loading(error=EngineError("the disk is full"))
    with ahead_of(engine) as ahead:
        ahead(BASE.config, [layer("a")])
        assert engine.loaded.wait(20)
        ahead(BASE.config, [layer("a"), layer("b")])
        assert ahead.finish() == ()


def test_a_bug_is_not_hidden() -> None:
    engine = Loading(error=ZeroDivisionError())

    def build() -> None:
        with ahead_of(engine) as ahead:
            ahead(BASE.config, [layer("a")])
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
            ahead(BASE.config, [layer("a"), layer("b"), layer("c")])
            assert started.wait(20)
            threading.Timer(0.3, ended.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert engine.stages == []  # the second layer was refused


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
