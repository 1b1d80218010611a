"""A user's folder, and the command line run in it as users run it: another process, real engine, own settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REGISTRY = "127.0.0.1:5000"
BASE = f"{REGISTRY}/envlock/base:py3.11"
BASE_313 = f"{REGISTRY}/envlock/base:py3.13"
NO_PYTHON = f"{REGISTRY}/library/debian:bookworm-slim"


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Return the one object that ``--json`` prints."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Workspace:
    """A folder with a spec, and the settings that its owner has."""

    folder: Path
    env: Mapping[str, str]
    repositories: list[str] = field(default_factory=list)
    prefix: tuple[str, ...] = ()  # a program that runs envlock: as another user, say

    def write(self, name: str, text: str) -> Path:
        """Write a file below the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def envlock(self, *arguments: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> Answer:
        """Run envlock; fail where it ends with another code than ``code`` (None: any)."""
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "envlock", *arguments],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Answer(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start envlock and let it run; it is ended with the context."""
        process = subprocess.Popen(
            [sys.executable, "-m", "envlock", *arguments],
            cwd=self.folder,
            env=dict(self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()

    def lock(self) -> Any:
        """Return the lock file's content."""
        return json.loads((self.folder / "envlock.lock").read_text())

    def pins(self) -> dict[str, str]:
        """Return the locked Python packages, name → version."""
        return {wheel["name"]: wheel["version"] for wheel in self.lock()["wheels"]}


def make_workspace(folder: Path, *, index_url: str | None = None, **env: str) -> Workspace:
    """Make a workspace whose default package index is the given one, with caches of its own."""
    home = folder / "home"
    work = folder / "work"
    for path in (home, work):
        path.mkdir(parents=True)
    settings = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "XDG_", "MLFLOW_", "ENVLOCK_", "GIT_")) or name == "PIP_CERT"
    }
    settings |= {
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,  # neither the user's nor the machine's: only what is set here
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CEILING_DIRECTORIES": str(folder),
        "COLUMNS": "120",
    }
    if index_url is not None:
        settings["PIP_INDEX_URL"] = index_url
    return Workspace(folder=work, env={**settings, **env})
