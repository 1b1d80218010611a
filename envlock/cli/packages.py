"""Where packages come from: indexes and apt archives, by this user's configuration."""

from __future__ import annotations

import sys
from pathlib import Path

from envlock.adapters.apt_archive import HttpAptArchive
from envlock.adapters.credentials import Credentials
from envlock.adapters.deb_source import DebSource
from envlock.adapters.index_http import IndexHttp
from envlock.adapters.package_index import PackageIndexes
from envlock.adapters.pip_configuration import read_pip_settings
from envlock.adapters.wheel_source import WheelSource
from envlock.cli.world import World
from envlock.errors import UsageError
from envlock.model.lock import Lock, PythonSource, Wheel
from envlock.ports import EngineImage, Wanted


def wanted(lock: Lock, folder: Path, *, with_engine: bool = True, world: World) -> list[Wanted]:
    """Return every file that building a lock needs; ``folder`` is what its find-links folders are relative to.

    ``with_engine`` says whether wheels that were built from sdists may be built again.
    """
    index = indexes(lock.python_sources, folder, world)
    source = WheelSource(lock, index=index)

    def rebuild(wheel: Wheel) -> Path:
        from envlock.lock import rebuild_wheel

        return rebuild_wheel(
            wheel,
            files=world.artifacts.fetch(source.build_inputs(wheel), progress=world.progress),
            installer=lock.installer,
            containers=lambda handler: world.engine.container(_base(lock, world).id, handler=handler),
            python=lock.base.python.executable,
            artifacts=world.artifacts,
        )

    wheels = WheelSource(lock, index=index, rebuild=rebuild if with_engine else None)
    debs = DebSource(lock, archive=apt(world), base_files=lambda: _base_files(lock, world))
    return [*debs.wanted(), *wheels.wanted()]


def indexes(sources: tuple[PythonSource, ...], folder: Path, world: World) -> PackageIndexes:
    """Return the indexes that a spec or lock of a folder names, reached as pip's configuration says."""
    settings = read_pip_settings(world.environ, home=world.home, prefix=Path(sys.prefix))
    credentials = Credentials(world.environ, world.home)
    return PackageIndexes(
        sources,
        http=IndexHttp(settings, credentials=credentials, environ=world.environ),
        default_url=settings.index_url,
        root=folder,
        cache=world.cache / "metadata",
    )


def apt(world: World) -> HttpAptArchive:
    """Return what reads apt's archives; ENVLOCK_APT_MIRROR says where from."""
    return HttpAptArchive(mirrors=_mirrors(world.environ.get("ENVLOCK_APT_MIRROR", "")))


def _base(lock: Lock, world: World) -> EngineImage:
    return world.engine.find(lock.base.pinned) or world.engine.pull(
        lock.base.pinned, platform=lock.platform, progress=world.progress
    )


def _base_files(lock: Lock, world: World) -> dict[str, bytes]:
    with world.engine.container(_base(lock, world).id, python=lock.base.python.executable) as container:
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
