"""What all parts of the build benchmark share: its folder, its engines, and which run it is."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engines import Docker, second_engine
from benchmarks.lock import clean_environment
from benchmarks.measure import say
from benchmarks.serving import served

BASE = "127.0.0.1:5000/envlock/base:py3.11"
PYTHON = "3.11"
_ROOM = {"cuda": 100e9, "full": 35e9}  # bytes of disk, by list


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One run."""

    name: str  # the list's
    folder: Path
    links: Path  # wheels that are in no index: those of ``--find-links``, and variants
    url: str  # where they are served
    env: dict[str, str]  # for every command: the index, caches of our own, nothing of the user's
    runs: int
    sample: int
    alone: bool  # without what one would do instead
    engine: Docker = field(default_factory=Docker)
    second: Docker | None = None

    @property
    def mark(self) -> str:
        """Return what no other run is called."""
        return str(os.getpid())


@contextmanager
def bench(folder: Path, *, name: str, find_links: Path | None, runs: int, sample: int, alone: bool) -> Iterator[Bench]:
    """Set up, and take everything away at the end, however that comes."""
    links = folder / "links"
    links.mkdir()
    for wheel in sorted(find_links.glob("*.whl")) if find_links else ():
        (links / wheel.name).symlink_to(wheel.absolute())
    _check_room(folder, name)
    second = None if alone else second_engine()
    if second is None and not alone:
        say("no engine with BuildKit can be had here: without uv on BuildKit")
    env = clean_environment(folder) | {"ENVLOCK_STATE_DIR": str(folder / "state"), "SOURCE_DATE_EPOCH": "1700000000"}
    with served(links) as url:
        it = Bench(
            name=name,
            folder=folder,
            links=links,
            url=url,
            env=env,
            runs=runs,
            sample=sample,
            second=second,
            alone=alone,
        )
        contexts = second.contexts() if second else set()
        try:
            yield it
        finally:
            say("removing what was built")
            _clean(it, contexts)


def _clean(it: Bench, contexts: set[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # who is impatient, or signals a whole group, signals twice
        signal.signal(number, lambda *_: None)
    it.engine.remove_labelled(it.mark)
    if it.second is not None:
        it.second.remove_labelled(it.mark)
        it.second.remove_cache()
        it.second.forget(it.second.contexts() - contexts)


def _check_room(folder: Path, name: str) -> None:
    free, needed = shutil.disk_usage(folder).free, _ROOM.get(name, 10e9)
    if free < needed:
        say(f"{folder} has {free / 1e9:.0f} GB free, and list {name} may need {needed / 1e9:.0f} GB (TMPDIR moves it)")


def spread(among: int, count: int) -> list[int]:
    """Return places in a list of ``among``: about ``count``, evenly from first to last, with the one in the middle."""
    if among <= count:
        return list(range(among))
    places = {round(number * (among - 1) / (count - 1)) for number in range(count)} if count > 1 else set()
    return sorted(places | {among // 2})


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]
