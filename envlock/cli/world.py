"""The wiring: which adapter answers which port, and where this user's files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.engine import DockerEngine
from envlock.adapters.outbox import FileOutbox
from envlock.cli.progress import TerminalProgress
from envlock.ports import Engine, Progress, Registry


@dataclass(frozen=True)
class World:
    """Everything outside, made when it is first asked for."""

    environ: Mapping[str, str]
    cwd: Path

    @cached_property
    def progress(self) -> Progress:
        """Return the progress display on stderr."""
        return TerminalProgress(Console(stderr=True))

    @cached_property
    def engine(self) -> Engine:
        """Return the Docker engine that the environment names."""
        return DockerEngine(self.environ)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """Return the store of fetched files."""
        return ArtifactStore(self.cache / "artifacts")

    @cached_property
    def outbox(self) -> FileOutbox:
        """Return the records that wait for MLflow."""
        return FileOutbox(self.state / "outbox")

    @property
    def cache(self) -> Path:
        """Return the folder of what can be fetched again (XDG base directory specification)."""
        return self._folder("ENVLOCK_CACHE_DIR", "XDG_CACHE_HOME", ".cache")

    @property
    def state(self) -> Path:
        """Return the folder of what must not be lost (XDG base directory specification)."""
        return self._folder("ENVLOCK_STATE_DIR", "XDG_STATE_HOME", ".local/state")

    def _folder(self, own: str, xdg: str, default: str) -> Path:
        if self.environ.get(own):
            return Path(self.environ[own])
        home = self.environ.get(xdg) or str(Path(self.environ.get("HOME") or Path.home()) / default)
        return Path(home) / "envlock"
