"""Things that start when they are needed, or ahead of that, and end beside what goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from envlock.adapters.bases.lazy import Lazy, LazyCompiler, _Early
from envlock.errors import EngineError, WorldError
from tests.support.fake_engine import FakeContainer


class Starts:
    """A container whose start waits until it is let go; remembers what became of it."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.go = threading.Event()
        self.seen: list[str] = []
        self.error = error

    @contextmanager
    def __call__(self) -> Iterator[FakeContainer]:
        self.go.wait(10)
        if self.error is not None:
            raise self.error
        self.seen.append("start")
        yield FakeContainer({}, {})
        self.seen.append("end")


def test_a_container_that_started_early_is_the_one_that_is_used() -> None:
    early, late = Starts(), Starts()
    container = Lazy(late, start_early=early)
    container.warm()
    early.go.set()
    assert container.get() is container.get()
    container.close()
    with pytest.raises(WorldError, match="not open"):
        container.get()
    container.warm()
    container.close()
    assert (early.seen, late.seen) == (["start", "end"], [])


def test_a_container_that_started_for_nothing_ends() -> None:
    early = Starts()
    container = Lazy(Starts(), start_early=early)
    container.warm()
    threading.Timer(0.01, early.go.set).start()
    container.close()  # while it starts
    assert early.seen == ["start", "end"]


def test_what_fails_early_is_tried_again_and_then_told() -> None:
    early, late = Starts(error=EngineError("too early")), Starts(error=EngineError("still"))
    for one in (early, late):
        one.go.set()
    container = Lazy(late, start_early=early)
    container.warm()
    with pytest.raises(EngineError, match="still"):
        container.get()
    late.error = None
    assert container.get() is not None
    container.close()
    container = Lazy(late, start_early=early)
    container.warm()
    container.close()  # nobody needed it: no error


def test_whoever_does_not_wait_leaves_nothing_behind() -> None:
    starts = Starts()
    early = _Early(starts)
    early._abandon()  # what Ctrl-C comes to, while ``take`` waits
    starts.go.set()
    early._thread.join(10)
    assert starts.seen == ["start", "end"]
    again = Starts()
    again.go.set()
    through = _Early(again)
    through._thread.join(10)
    through._abandon()
    assert again.seen == ["start", "end"]


INTERRUPTED = """
import os, signal, threading, time
from contextlib import ExitStack, contextmanager
from envlock.adapters.bases.lazy import _Early
go = threading.Event()
@contextmanager
def start():
    go.wait(10)
    yield None
    time.sleep(0.5)
    print("end")
early = _Early(start)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    early.take(ExitStack())
except KeyboardInterrupt:
    print("interrupted")
    threading.Timer(0.3, go.set).start()  # while the process waits for its threads
"""


def test_a_process_that_is_interrupted_takes_its_container_away_before_it_ends() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["interrupted", "end"]


def test_what_was_started_for_nothing_is_released() -> None:
    early = Starts()
    lazy = Lazy(Starts(), start_early=early)
    lazy.warm()
    lazy.release()  # while it starts
    assert early.seen == []
    early.go.set()
    lazy.close()
    assert early.seen == ["start", "end"]


def test_nothing_compiles_after_the_end() -> None:
    compiler = LazyCompiler(lambda: pytest.fail("asked for"))
    compiler.close()
    with pytest.raises(WorldError, match="any more"):
        compiler.compile([])


def test_what_is_released_ends_beside_and_may_start_again() -> None:
    starts = Starts()
    starts.go.set()
    lazy = Lazy(starts)
    lazy.release()
    lazy.get()
    lazy.release()
    lazy.get()
    lazy.release()
    lazy.close()
    assert sorted(starts.seen) == ["end", "end", "start", "start"]
