"""Locking Python packages in tests: a fixed target, sources on loopback, and every part of the world in one place."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from packaging import tags
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.credentials import Credentials
from envlock.adapters.index_http import IndexHttp
from envlock.adapters.package_index import PackageIndexes
from envlock.adapters.pip_configuration import PipSettings
from envlock.adapters.resolvers.uv import UvResolver
from envlock.lock.build_sdist import Containers
from envlock.lock.interpreter import Interpreter
from envlock.lock.python import PythonLock, lock_python, python_sources
from envlock.model.lock import BasePython, Lock, PythonSource
from envlock.model.spec import FindLinks, ImageOptions, Index, Pip, Requested, Spec
from envlock.ports import Completed, Container, Handler, Resolver
from tests.support.locks import make_lock
from tests.support.packages import Package, wheel
from tests.support.progress import Remembering

MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.2",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.11.2",
    "python_version": "3.11",
    "sys_platform": "linux",
}
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)] + ["manylinux2014_x86_64", "linux_x86_64"]
TARGET = Interpreter(
    python=BasePython(
        version="3.11.2",
        executable="/usr/bin/python3.11",
        prefix="/usr",
        implementation="cpython",
        libc="glibc 2.36",
        markers=MARKERS,
    ),
    tags=tuple(
        str(tag)
        for tag in [
            *tags.cpython_tags((3, 11), ["cp311"], _PLATFORMS),
            *tags.compatible_tags((3, 11), "cp311", _PLATFORMS),
        ]
    ),
)
INSTALLER = wheel("pip", "26.0", uploaded="2020-01-01T00:00:00Z")  # every lock has one; here it installs nothing


def http_client(
    environ: Mapping[str, str] | None = None, *, home: Path = Path("/nonexistent"), **settings
) -> IndexHttp:
    """Make a client that waits for nothing between its tries."""
    environ = environ or {}
    credentials = Credentials(environ=environ, home=home)
    return IndexHttp(
        PipSettings(**({"index_url": "http://127.0.0.1:9/", "timeout": 5.0} | settings)),
        credentials=credentials,
        environ=environ,
        pause=0.001,
    )


def package_indexes(
    default_url: str,
    *sources: PythonSource,
    http: IndexHttp | None = None,
    root: Path = Path("/nonexistent"),
    cache=None,
) -> PackageIndexes:
    return PackageIndexes(sources, http=http or http_client(), default_url=default_url, root=root, cache=cache)


def no_containers(handler: Handler | None) -> Containers:
    """Stand where no container is needed: uv runs on this machine."""

    @contextmanager
    def none() -> Iterator[Container]:
        yield NoContainer()  # type: ignore[misc]

    return none()


class NoContainer:
    def run(self, *_: object, **__: object) -> Completed:
        raise AssertionError("nothing is to run in a container")


@dataclass(kw_only=True)
class Locking:
    """What stays the same from one lock to the next in a test."""

    default_url: str
    tmp_path: Path
    interpreter: Interpreter = TARGET
    containers: Containers = no_containers
    resolver: Resolver = field(default_factory=lambda: UvResolver(os.environ))
    http: IndexHttp = field(default_factory=http_client)
    progress: Remembering = field(default_factory=Remembering)

    def lock(
        self,
        *requirements: str,
        constraints: Sequence[str] = (),
        previous: PythonLock | None = None,
        upgrade: bool = False,
        upgrade_packages: Collection[str] = (),
        indexes: Sequence[Index] = (),
        find_links: Mapping[str, str] | None = None,
        sdist: Sequence[str] = (),
        as_of: str | None = None,
        hashes: Mapping[str, tuple[str, ...]] | None = None,
    ) -> PythonLock:
        links = tuple(FindLinks(name=name, path=path) for name, path in (find_links or {}).items())
        pip = Pip(indexes=tuple(indexes), find_links=links, sdist=tuple(sdist))
        spec = Spec(
            name="demo", base="base", python="3.11", image=ImageOptions(repository="demo"), pip=pip, as_of=as_of
        )
        requested = Requested(
            spec=spec,
            requirements=tuple(sorted(canonical(one) for one in requirements)),
            constraints=tuple(constraints),
            hashes=hashes or {},
        )
        index = PackageIndexes(
            python_sources(pip), http=self.http, default_url=self.default_url, root=self.tmp_path, cache=None
        )
        return lock_python(
            requested,
            interpreter=self.interpreter,
            containers=self.containers,
            index=index,
            resolver=self.resolver,
            artifacts=ArtifactStore(self.tmp_path / "artifacts"),
            previous=as_lock(previous) if previous else None,
            upgrade=upgrade,
            upgrade_packages=upgrade_packages,
            progress=self.progress,
        )


def canonical(line: str) -> str:
    requirement = Requirement(line)
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def as_lock(python: PythonLock) -> Lock:
    """Return a whole lock around the Python part."""
    return make_lock(wheels=python.wheels, python_sources=python.sources, installer=python.installer)


def pins(lock: PythonLock) -> dict[str, str]:
    return {one.name: one.version for one in lock.wheels}


def offered(*packages: Package) -> list[Package]:
    """Return packages together with the installer that every lock needs."""
    return [INSTALLER, *packages]
