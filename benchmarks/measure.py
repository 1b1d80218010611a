"""Timing whole commands, in turn, and writing down medians and ratios."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to do a job: ``prepare`` (not timed) puts the world into the state that ``run`` starts from."""

    name: str
    run: Callable[[], None]
    prepare: Callable[[], None] = lambda: None


@dataclass(kw_only=True)
class Result:
    """The seconds that each run of one way took."""

    name: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def compare(title: str, ways: Sequence[Way], *, runs: int) -> str:
    """Run all ways in turn, ``runs`` times (A B C A B C …), and return a Markdown table of the results.

    In turn, because a shared machine's speed drifts; medians, because one run in a few is disturbed.
    """
    results = [Result(name=way.name) for way in ways]
    for number in range(runs):
        for way, result in zip(ways, results, strict=True):
            way.prepare()
            start = time.perf_counter()
            way.run()
            result.seconds.append(time.perf_counter() - start)
            print(f"  {title}: {way.name}, run {number + 1}: {result.seconds[-1]:.2f} s", file=sys.stderr)
    return _table(title, results)


def _table(title: str, results: Sequence[Result]) -> str:
    own = results[0].median
    rows = [
        f"| {result.name} | {min(result.seconds):.2f} | {result.median:.2f} | {max(result.seconds):.2f} | "
        f"{result.median / own:.1f}x |"
        for result in results
    ]
    runs = len(results[0].seconds)
    head = [f"### {title}", "", f"| way ({runs} runs) | min s | median s | max s | against envlock |"]
    return "\n".join([*head, "|---|--:|--:|--:|--:|", *rows, ""])


def command(argv: Sequence[str | Path], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return its stdout; its stderr is shown only if it fails."""
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-4000:] + done.stderr[-4000:])
        raise SystemExit(f"{argv[0]} failed with exit code {done.returncode}")
    return done.stdout


def peak_memory() -> int:
    """Return the peak resident memory, in bytes, of the largest child process so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
