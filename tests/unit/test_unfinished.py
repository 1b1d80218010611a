"""Images that engines were being given when builds ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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
    with pytest.raises(KeyboardInterrupt), unfinished.sending(ids):
        raise KeyboardInterrupt


def left(unfinished: FileUnfinished) -> list[tuple[str, ...]]:
    return [one.ids for one in unfinished.left()]


def test_what_ends_well_is_forgotten_and_what_does_not_is_left(tmp_path: Path) -> None:
    unfinished = FileUnfinished(tmp_path)
    assert left(unfinished) == []
    with unfinished.sending((ONE, TWO)):
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
        f"with FileUnfinished(Path(sys.argv[1])).sending(({ONE!r},)): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    assert left(FileUnfinished(tmp_path)) == [(ONE,)]


def test_it_is_only_a_help(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with FileUnfinished(tmp_path / "file").sending((ONE,)):
        pass
    assert left(FileUnfinished(tmp_path / "file")) == []
    for content in (b"", b"[", b"7", b'["x", 7]', b"\xff"):
        (tmp_path / "odd.json").write_bytes(content)
        assert left(FileUnfinished(tmp_path)) == [()]


def test_an_image_without_a_name_is_removed_and_others_stay(tmp_path: Path) -> None:
    unfinished, engine = FileUnfinished(tmp_path), Engine()
    came, named, used = engine.add(), engine.add("demo:v1"), engine.add()
    engine.used = used.id
    for image in (came, named, used):
        interrupted(unfinished, TWO, image.id) if image is came else interrupted(unfinished, image.id)
    forget_unfinished(unfinished, engine)
    assert set(engine.images) == {named.id, used.id}
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
