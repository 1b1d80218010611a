"""Packages that come as source only: what they require, and the wheels that are built from them, each once."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Lock

from packaging.utils import parse_wheel_filename

from envlock.errors import Unresolvable
from envlock.lock.build_sdist import BuildInput, backend_requires, build_wheel
from envlock.lock.candidates import Candidate
from envlock.lock.core_metadata import is_static
from envlock.lock.interpreter import Interpreter
from envlock.lock.resolution import Means, identity
from envlock.lock.sdist_archive import Sdist, read_sdist
from envlock.model.lock import SourceBuild, Wheel
from envlock.ports import IndexFile, Wanted

ResolveBuild = Callable[[Sequence[str]], tuple[Wheel, ...]]


class SourceBuilds:
    """Builds on demand. ``resolve`` pins build requirements; ``locked`` is what the lock so far has."""

    def __init__(
        self,
        *,
        means: Means,
        interpreter: Interpreter,
        installer: Callable[[], Wheel],
        resolve: ResolveBuild,
        locked: Iterable[Wheel],
    ) -> None:
        self._means = means
        self._interpreter = interpreter
        self._installer = installer
        self._resolve = resolve
        self._locked = {wheel.built_from.sha256: wheel for wheel in locked if wheel.built_from is not None}
        self._lock = Lock()  # one build at a time: they take all cores and much memory
        self._built: dict[str, Wheel] = {}

    def metadata(self, candidate: Candidate) -> bytes:
        """Return the metadata that the wheel of an sdist has (or will have, where the sdist says so for sure)."""
        with self._lock:
            path, sha256, _ = self._fetch(candidate)
            sdist = read_sdist(path, filename=candidate.file.filename)
            if sdist.metadata is not None and is_static(sdist.metadata):
                return sdist.metadata
            wheel = self._locked.get(sha256) or self._built.get(sha256)
            stored = self._means.artifacts.has(wheel.sha256) if wheel is not None else None
            if stored is None:
                wheel = self._build(candidate)
                stored = self._means.artifacts.has(wheel.sha256)
            if stored is None:
                raise Unresolvable(f"the wheel built from {candidate.file.filename} was lost")
            return _metadata_in(stored.read_bytes())

    def wheel(self, candidate: Candidate) -> Wheel:
        """Return the wheel of an sdist, built now unless the lock so far has one of the very same sdist."""
        with self._lock:
            _, sha256, _ = self._fetch(candidate)
            return self._built.get(sha256) or self._locked.get(sha256) or self._build(candidate)

    def _build(self, candidate: Candidate) -> Wheel:
        path, sha256, size = self._fetch(candidate)
        title = candidate.file.filename
        with self._means.progress.task(f"Building {title}") as task:
            requires, wanted = self._inputs(title, path)
            built = build_wheel(wanted, containers=self._means.containers, python=self._python, on_line=task.note)
        self._check(candidate, built.filename)
        wheel_sha256, wheel_size, _ = self._means.artifacts.add((built.content,))
        wheel = Wheel(
            name=candidate.name,
            version=str(candidate.version),
            source=candidate.file.source,
            filename=built.filename,
            sha256=wheel_sha256,
            size=wheel_size,
            built_from=SourceBuild(
                source=candidate.file.source, filename=title, sha256=sha256, size=size, build_requires=requires
            ),
        )
        self._built[sha256] = wheel
        return wheel

    def _inputs(self, title: str, path: Path) -> tuple[tuple[Wheel, ...], BuildInput]:
        """Return the build requirements, pinned, and all files that the build needs."""
        sdist = read_sdist(path, filename=title)
        static = list(sdist.system["requires"])
        requires = self._resolve(static)
        wanted = self._input(title, path, requires)
        if more := self._asked_for(sdist, wanted):
            requires = self._resolve([*static, *more])
            wanted = self._input(title, path, requires)
        return requires, wanted

    def _asked_for(self, sdist: Sdist, wanted: BuildInput) -> tuple[str, ...]:
        return backend_requires(
            wanted, system=dict(sdist.system), containers=self._means.containers, python=self._python
        )

    def _input(self, title: str, path: Path, requires: Sequence[Wheel]) -> BuildInput:
        installer = self._installer()
        files = self._means.artifacts.fetch(
            [self._wanted(wheel) for wheel in (installer, *requires)], progress=self._means.progress
        )
        return BuildInput(
            filename=title,
            sdist=path,
            requires=[(wheel.filename, files[wheel.sha256]) for wheel in requires],
            installer=(installer.filename, files[installer.sha256]),
        )

    @property
    def _python(self) -> str:
        return self._interpreter.python.executable

    def _check(self, candidate: Candidate, filename: str) -> None:
        name, version, _, tags = parse_wheel_filename(filename)
        if name != candidate.name or version != candidate.version:
            raise Unresolvable(
                f"{candidate.file.filename} was built into {filename}, which is another package or version"
            )
        if not {str(tag) for tag in tags} & set(self._interpreter.tags):
            raise Unresolvable(f"{candidate.file.filename} was built into {filename}, which does not fit the base")

    def _fetch(self, candidate: Candidate) -> tuple[Path, str, int]:
        """Have the sdist in the store, checked against its page."""
        file = candidate.file
        sha256, size = identity(file, self._means)
        wanted = Wanted(title=file.filename, sha256=sha256, size=size, open=lambda: self._means.index.open(file))
        return self._means.artifacts.fetch([wanted], progress=self._means.progress)[sha256], sha256, size

    def _wanted(self, wheel: Wheel) -> Wanted:
        def opened() -> AbstractContextManager[Iterable[bytes]]:
            return self._means.index.open(self._file(wheel))

        return Wanted(title=wheel.filename, sha256=wheel.sha256, size=wheel.size, open=opened)

    def _file(self, wheel: Wheel) -> IndexFile:
        for file in self._means.index.files(wheel.name):
            if file.filename == wheel.filename and file.source == wheel.source:
                return file
        raise Unresolvable(f"{wheel.source} no longer has {wheel.filename}")


def _metadata_in(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA") and one.count("/") == 1)
        return archive.read(name)
