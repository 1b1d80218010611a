"""The wiring: which adapter answers which port, and where this user's files are."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from envlock.adapters.apt_archive import HttpAptArchive
from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.credentials import Credentials
from envlock.adapters.deb_source import DebSource
from envlock.adapters.engine import DockerEngine
from envlock.adapters.index_http import IndexHttp
from envlock.adapters.mlflow_store import MlflowRuns, default_tracking_uri
from envlock.adapters.outbox import FileOutbox
from envlock.adapters.package_index import PackageIndexes
from envlock.adapters.pip_configuration import read_pip_settings
from envlock.adapters.registry import HttpRegistry
from envlock.adapters.resolvers.pip_tools import PipToolsResolver
from envlock.adapters.resolvers.uv import UvResolver
from envlock.adapters.wheel_source import WheelSource
from envlock.cli.progress import TerminalProgress
from envlock.errors import UsageError
from envlock.lock import Sources, python_sources, rebuild_wheel
from envlock.model.lock import Lock, PythonSource, Wheel
from envlock.model.spec import Requested
from envlock.ports import Engine, EngineImage, Outbox, Progress, Resolver, RunStore, Wanted


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
    def outbox(self) -> Outbox:
        """Return the records that wait for MLflow."""
        return FileOutbox(self.state / "outbox", warn=self.progress.message)

    def runs(self, tracking_uri: str | None) -> RunStore:
        """Return an MLflow store; MLflow's own setting where none is named."""
        uri = tracking_uri or default_tracking_uri(self.environ, self.cwd)
        # MLflow reads its settings from the process's environment and nowhere else
        return MlflowRuns(uri, environ=os.environ, note=self.progress.message)

    def sources(self, requested: Requested, folder: Path) -> Sources:
        """Return what locking a spec of this folder asks."""
        return Sources(
            engine=self.engine,
            registry=HttpRegistry(self.environ, mirrors=lambda: self.engine.info().mirrors),
            index=self._indexes(python_sources(requested.spec.pip), folder),
            apt=self._apt,
            resolver=self._resolver(requested.spec.pip.resolver),
            artifacts=self.artifacts,
            progress=self.progress,
        )

    def wanted(self, lock: Lock, folder: Path) -> list[Wanted]:
        """Return every file that building a lock needs; ``folder`` is what its find-links folders are relative to."""
        source = WheelSource(lock, index=self._indexes(lock.python_sources, folder))

        def rebuild(wheel: Wheel) -> Path:
            return rebuild_wheel(
                wheel,
                files=self.artifacts.fetch(source.build_inputs(wheel), progress=self.progress),
                installer=lock.installer,
                containers=lambda handler: self.engine.container(self._base(lock).id, handler=handler),
                python=lock.base.python.executable,
                artifacts=self.artifacts,
            )

        wheels = WheelSource(lock, index=self._indexes(lock.python_sources, folder), rebuild=rebuild)
        debs = DebSource(lock, archive=self._apt, base_files=lambda: self._base_files(lock))
        return [*debs.wanted(), *wheels.wanted()]

    # --- folders ------------------------------------------------------------------------------------------------------

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
        return Path(self.environ.get(xdg) or self._home / default) / "envlock"

    @property
    def _home(self) -> Path:
        return Path(self.environ.get("HOME") or Path.home())

    # --- adapters -----------------------------------------------------------------------------------------------------

    def _indexes(self, sources: tuple[PythonSource, ...], folder: Path) -> PackageIndexes:
        settings = read_pip_settings(self.environ, home=self._home, prefix=Path(sys.prefix))
        credentials = Credentials(self.environ, self._home)
        return PackageIndexes(
            sources,
            http=IndexHttp(settings, credentials=credentials, environ=self.environ),
            default_url=settings.index_url,
            root=folder,
            cache=self.cache / "metadata",
        )

    def _resolver(self, name: str) -> Resolver:
        return UvResolver(self.environ) if name == "uv" else PipToolsResolver()

    @cached_property
    def _apt(self) -> HttpAptArchive:
        return HttpAptArchive(mirrors=_mirrors(self.environ.get("ENVLOCK_APT_MIRROR", "")))

    def _base(self, lock: Lock) -> EngineImage:
        return self.engine.find(lock.base.pinned) or self.engine.pull(
            lock.base.pinned, platform=lock.platform, progress=self.progress
        )

    def _base_files(self, lock: Lock) -> dict[str, bytes]:
        with self.engine.container(self._base(lock).id, python=lock.base.python.executable) as container:
            return dict(container.files("/etc/apt"))


def _mirrors(text: str) -> dict[str, str]:
    """Read ``ENVLOCK_APT_MIRROR``: "<URI prefix>=<mirror>", several with spaces between."""
    mirrors = {}
    for word in text.split():
        prefix, equals, mirror = word.partition("=")
        if not (equals and "://" in prefix and "://" in mirror):
            raise UsageError(
                "ENVLOCK_APT_MIRROR is not understood",
                hint="write http://archive.example.org/debian=https://mirror.example.org/debian, several with spaces",
            )
        mirrors[prefix] = mirror
    return mirrors
