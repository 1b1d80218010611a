"""The boundary of the command line: every ending has its message and its exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envlock.formats.lock_json import dump_lock
from tests.support.locks import make_lock

ROOT = Path(__file__).resolve().parents[2]
ENDING = """
import typer, sys
from envlock.cli.boundary import Boundary
from envlock import errors
app = typer.Typer(cls=Boundary)
@app.callback()
def _(): pass
@app.command()
def end():
    print("before", flush=True)
    {ending}
app()
"""


def run(ending: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ENDING.format(ending=ending), "end"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.parametrize(
    ("ending", "code", "says"),
    [
        ("pass", 0, ""),
        ("raise typer.Exit(1)", 1, ""),
        (
            "raise errors.LockError('x: broken', hint='lock again', details=['one'])",
            2,
            "error: x: broken\n  one\n\nhint: lock again\n",
        ),
        ("raise errors.EngineError('none answers')", 3, "error: none answers\n"),
        ("raise OSError(28, 'full', '/cache')", 3, "error: No space left on device (/cache)\n"),
        ("raise KeyboardInterrupt", 130, "envlock: interrupted"),
        ("import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", 143, "envlock: interrupted"),
        ("raise BrokenPipeError", 0, ""),
        ("raise ValueError('oops')", 70, "this is a bug in envlock"),
        ("raise OSError(13, 'no')", 70, "this is a bug in envlock"),
    ],
)
def test_each_ending(ending: str, code: int, says: str) -> None:
    done = run(ending)
    assert (done.returncode, done.stdout) == (code, "before\n")
    assert says in done.stderr
    assert ("Traceback" in done.stderr) == (code == 70)


def test_usage_is_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "envlock", "lock", "--no-such-option"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr


def test_output_that_nobody_takes(tmp_path: Path) -> None:
    lock = tmp_path / "envlock.lock"
    lock.write_text(dump_lock(make_lock()))
    show = [sys.executable, "-m", "envlock", "show", str(lock)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(show, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: No space left on device")
    with subprocess.Popen(show, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() in (0, -signal.SIGPIPE)
