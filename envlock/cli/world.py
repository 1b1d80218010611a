"""The wiring: which adapter answers which port, and where this user's files are.

What a command does not ask for is not imported either: all adapters together take longer than most commands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from envlock.cli.progress import TerminalProgress
from envlock.errors import UsageError

if TYPE_CHECKING:
    from envlock.adapters.artifacts import ArtifactStore
    from envlock.adapters.engine import DockerEngine
    from envlock.adapters.publishing import PushMemory
    from envlock.ports import Outbox, Progress, RunStore


@dataclass(frozen=True)
class World:
    """Everything outside, made when it is first asked for."""

    environ: Mapping[str, str]
    cwd: Path

    @classmethod
    def here(cls) -> World:
        """Return the world as this process sees it."""
        return cls(environ=os.environ, cwd=Path.cwd())

    # --- ports --------------------------------------------------------------------------------------------------------

    @cached_property
    def progress(self) -> Progress:
        """Return the progress display on stderr."""
        return TerminalProgress(sys.stderr)

    @cached_property
    def engine(self) -> DockerEngine:
        """Return the Docker engine that the environment names."""
        from envlock.adapters.engine import DockerEngine

        return DockerEngine(self.environ)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """Return the store of fetched files."""
        from envlock.adapters.artifacts import ArtifactStore

        return ArtifactStore(self.cache / "artifacts")

    @cached_property
    def outbox(self) -> Outbox:
        """Return the records that wait for MLflow."""
        from envlock.adapters.outbox import FileOutbox

        return FileOutbox(self.state / "outbox", warn=self.progress.message)

    @property
    def pushes(self) -> PushMemory:
        """Return the memory of what was pushed where."""
        from envlock.adapters.publishing import PushMemory

        return PushMemory(self.cache / "pushed")

    def runs(self, tracking_uri: str | None) -> RunStore:
        """Return an MLflow store; MLflow's own setting where none is named."""
        from envlock.adapters.mlflow_store import MlflowRuns, default_tracking_uri

        uri = tracking_uri or default_tracking_uri(self.environ, self.cwd)
        # MLflow reads its settings from the process's environment and nowhere else
        return MlflowRuns(uri, environ=os.environ, note=self.progress.message)

    # --- rooms --------------------------------------------------------------------------------------------------------

    @property
    def cache(self) -> Path:
        """Return the folder of what can be fetched again (XDG base directory specification)."""
        return self._folder("ENVLOCK_CACHE_DIR", "XDG_CACHE_HOME", ".cache")

    @property
    def state(self) -> Path:
        """Return the folder of what must not be lost (XDG base directory specification)."""
        return self._folder("ENVLOCK_STATE_DIR", "XDG_STATE_HOME", ".local/state")

    @property
    def home(self) -> Path:
        """Return this user's home folder."""
        try:
            return Path(self.environ.get("HOME") or Path.home())
        except RuntimeError:
            raise UsageError(
                "this user has no home folder, and HOME is not set",
                hint="set HOME; ENVLOCK_CACHE_DIR and ENVLOCK_STATE_DIR say where envlock keeps its own files",
            ) from None

    def _folder(self, own: str, xdg: str, default: str) -> Path:
        if self.environ.get(own):
            return Path(self.environ[own]).absolute()
        return Path(self.environ.get(xdg) or self.home / default).absolute() / "envlock"
