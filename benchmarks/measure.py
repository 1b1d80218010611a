"""Timing whole commands, in turn: seconds, and the peak memory of what they ran."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_PATIENCE = 20  # seconds that a command has for ending when it is told to
_RECENT = 61  # seconds in which ext4 gives an inode that was freed to no new file, and looks at each again and again
_SHOWN = 2000  # characters of a failed command's output


class CommandFailed(Exception):
    """A command ended with an error, or ran longer than it may."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has run: its stdout, and what it took."""

    stdout: str
    seconds: float
    peak: int  # bytes; the largest process among it and those that it waited for


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to do a job: ``prepare`` (not timed) puts the world into the state that ``run`` starts from."""

    name: str
    run: Callable[[], Done]
    prepare: Callable[[], object] = lambda: None


@dataclass(kw_only=True)
class Result:
    """What the runs of one way took; ``error`` where one failed, and none followed."""

    name: str
    runs: list[Done] = field(default_factory=list)
    error: str = ""

    @property
    def seconds(self) -> list[float]:
        return [run.seconds for run in self.runs]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def peak(self) -> int:
        return max(run.peak for run in self.runs)


def compare(title: str, ways: Sequence[Way], *, runs: int) -> list[Result]:
    """Run all ways in turn, ``runs`` times (A B C A B C …).

    In turn, because a shared machine's speed drifts; medians, because one run in a few is disturbed.
    """
    results = [Result(name=way.name) for way in ways]
    for number in range(runs):
        for way, result in zip(ways, results, strict=True):
            if not result.error:
                _run(way, result, f"{title}: {way.name}, run {number + 1}")
    return results


def _run(way: Way, result: Result, title: str) -> None:
    try:
        way.prepare()
        settle()
        done = way.run()
    except CommandFailed as error:
        result.error = str(error)
        say(f"{title}: {error}")
        return
    result.runs.append(done)
    say(f"{title}: {done.seconds:.2f} s")


_removed = -_RECENT + time.monotonic()  # when thousands of files were removed last


def removed() -> None:
    """Take note that thousands of files are being removed."""
    global _removed  # noqa: PLW0603 - it is of the machine's file system, of which there is one
    _removed = time.monotonic()


def settle() -> None:
    """Wait until what was done before costs the next command nothing.

    That is writing, and removing: on ext4, whoever makes files soon after many others were removed spends more time
    in finding inodes than in anything else. Images are removed here all the time, and by users hardly ever.
    """
    os.sync()
    time.sleep(max(0.0, _removed + _RECENT - time.monotonic()))


def say(line: str) -> None:
    """Show progress on stderr."""
    print(f"  {time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def command(
    argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 600
) -> Done:
    """Run a command to its end; raises ``CommandFailed``. However this ends, nothing that it started goes on."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in argv],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        end = _End(process.pid)
        try:
            in_time = end.wait(timeout)
        finally:
            _stop(process.pid, end)
            process.returncode = end.code  # it was waited for, which Popen does not know
        if not in_time or end.code != 0:
            why = f"failed with exit code {end.code}" if in_time else f"ran longer than {timeout:.0f} s, and was ended"
            raise CommandFailed(f"{_title(argv)} {why}: {_tail(out)}{_tail(err)}")
        out.seek(0)
        return Done(stdout=out.read().decode(errors="replace"), seconds=end.at - start, peak=end.peak)


class _End(threading.Thread):
    """Waits for a process as its parent, which is then told what it used (wait4)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.code = 0
        self.at = 0.0
        self.peak = 0
        self.start()

    def run(self) -> None:
        _, status, usage = os.wait4(self._pid, 0)
        self.at = time.perf_counter()
        self.code = os.waitstatus_to_exitcode(status)
        self.peak = usage.ru_maxrss << 10

    def wait(self, seconds: float) -> bool:
        self.join(seconds)
        return not self.is_alive()


def _stop(pid: int, end: _End) -> None:
    """End what is left of the process and of its children: politely, then at once."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
        if end.wait(_PATIENCE):
            return


def _title(argv: Sequence[str | Path]) -> str:
    words = [Path(argv[0]).name, *(str(word) for word in argv[1:4])]
    return " ".join(words)


def _tail(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _SHOWN))
    return file.read().decode(errors="replace").strip()
