"""Images that engines were being given when builds ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from envlock.adapters.unfinished import FileUnfinished
from envlock.build.engine_images import forget_unfinished
from envlock.errors import EngineError
from tests.support.fake_engine import FakeEngine

ONE, TWO = (f"sha256:{letter * 64}" for letter in "12")


class Engine(FakeEngine):
    """One that can also remove images."""

    used: str = ""

    def remove(self, reference: str) -> None:
        if reference == self.used:
            raise EngineError("a container uses it")
        del self.images[reference]


def interrupted(unfinished: FileUnfinished, *ids: str) -> None:
    def build() -> None:
        with unfinished.sending(ids) as remember:
            remember()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build()


def left(unfinished: FileUnfinished) -> list[tuple[str, ...]]:
    return [one.ids for one in unfinished.left()]


def test_what_ends_well_is_forgotten_and_what_does_not_is_left(tmp_path: Path) -> None:
    unfinished = FileUnfinished(tmp_path)
    assert left(unfinished) == []
    with unfinished.sending((ONE, TWO)) as remember:
        remember()
        assert left(unfinished) == []  # it is held
    assert left(unfinished) == []
    interrupted(unfinished, ONE, TWO)
    assert left(unfinished) == [(ONE, TWO)]
    with unfinished.sending((ONE, TWO)):
        pass
    assert left(unfinished) == []


def test_a_process_that_is_killed_leaves_it(tmp_path: Path) -> None:
    script = (
        "import os, sys, signal; from pathlib import Path; from envlock.adapters.unfinished import FileUnfinished\n"
        f"with FileUnfinished(Path(sys.argv[1])).sending(({ONE!r},)) as remember:\n"
        "    remember(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    assert left(FileUnfinished(tmp_path)) == [(ONE,)]


def test_it_is_only_a_help(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with FileUnfinished(tmp_path / "file").sending((ONE,)) as remember:
        remember()
    assert left(FileUnfinished(tmp_path / "file")) == []
    for content in (b"", b"[", b"7", b'["x", 7]', b"\xff"):
        (tmp_path / "odd.json").write_bytes(content)
        assert left(FileUnfinished(tmp_path)) == [()]


def test_an_image_that_was_there_before_is_nobody_s_to_take_away(tmp_path: Path) -> None:
    unfinished = FileUnfinished(tmp_path)
    with pytest.raises(KeyboardInterrupt), unfinished.sending((ONE,)):
        raise KeyboardInterrupt
    assert left(unfinished) == [()]
    interrupted(unfinished, ONE)
    with pytest.raises(KeyboardInterrupt), unfinished.sending((ONE,)):
        raise KeyboardInterrupt
    assert left(unfinished) == [(ONE,)]


def test_a_build_waits_for_who_takes_away_what_an_earlier_one_left(tmp_path: Path) -> None:
    unfinished = FileUnfinished(tmp_path)
    interrupted(unfinished, ONE)
    held = unfinished.left()
    found = next(held)
    entered = threading.Event()

    def build() -> None:
        with unfinished.sending((ONE,)) as remember:
            remember()
            entered.set()
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build)
        assert not entered.wait(0.3)
        found.forget()
        held.close()
        assert entered.wait(20)
        assert isinstance(building.exception(20), KeyboardInterrupt)
    assert left(unfinished) == [(ONE,)]


def test_an_image_without_a_name_is_removed_and_others_stay(tmp_path: Path) -> None:
    unfinished, engine = FileUnfinished(tmp_path), Engine()
    came, named, used = engine.add(), engine.add("demo:v1"), engine.add()
    pulled = engine.add(digests=("demo@sha256:" + "3" * 64,))
    engine.used = used.id
    for image in (came, named, used, pulled):
        interrupted(unfinished, TWO, image.id) if image is came else interrupted(unfinished, image.id)
    forget_unfinished(unfinished, engine)
    assert set(engine.images) == {named.id, used.id, pulled.id}
    assert left(unfinished) == []


def test_the_engine_may_still_be_at_work_on_it(tmp_path: Path) -> None:
    unfinished, engine = FileUnfinished(tmp_path), Engine()
    interrupted(unfinished, ONE)
    forget_unfinished(unfinished, engine)
    assert left(unfinished) == [(ONE,)]
    engine.images[ONE] = replace(engine.add(), id=ONE)
    forget_unfinished(unfinished, engine)
    assert ONE not in engine.images
    interrupted(unfinished, ONE)
    long_ago = time.time() - 7200
    os.utime(next(tmp_path.iterdir()), (long_ago, long_ago))
    forget_unfinished(unfinished, engine)
    assert left(unfinished) == []
