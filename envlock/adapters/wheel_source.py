"""Where the wheels of a lock are fetched from: the sources that it names, by file name; nothing is resolved again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from envlock.adapters.package_index import PackageIndexes
from envlock.errors import EngineError, HashMismatch, IndexFailed
from envlock.model.lock import Lock, SourceBuild, Wheel
from envlock.ports import IndexFile, Wanted

_BLOCK = 1024 * 1024  # bytes


class WheelSource:
    """Opens the files of a lock.

    ``index`` is made from the lock's own sources, with this machine's default index. ``rebuild`` makes a wheel again
    that was built from an sdist and is not in the store any more, and returns its path; without it, that is an error.
    """

    def __init__(self, lock: Lock, *, index: PackageIndexes, rebuild: Callable[[Wheel], Path] | None = None) -> None:
        self._lock = lock
        self._index = index
        self._rebuild = rebuild

    def wanted(self, wheels: Sequence[Wheel] | None = None) -> list[Wanted]:
        """Return what ``Artifacts.fetch`` is to have here: some wheels, or all of the lock with its installer.

        Opening one raises ``IndexFailed`` (nobody answers, the file is gone), ``HashMismatch`` (another file now).
        """
        chosen = (*self._lock.wheels, self._lock.installer) if wheels is None else wheels
        return [self._wanted(wheel) for wheel in chosen]

    def build_inputs(self, wheel: Wheel) -> list[Wanted]:
        """Return what is needed to build a wheel again: its sdist, its build requirements, and the installer."""
        origin = wheel.built_from
        if origin is None:
            return []
        wheels = {one.sha256: one for one in (*origin.build_requires, self._lock.installer)}
        return [self._file_wanted(wheel.name, origin), *(self._wanted(one) for one in wheels.values())]

    def _wanted(self, wheel: Wheel) -> Wanted:
        if wheel.built_from is None:
            return self._file_wanted(wheel.name, wheel)
        built_from = wheel.built_from.filename

        @contextmanager
        def opened() -> Iterator[Iterable[bytes]]:
            if self._rebuild is None:
                raise EngineError(
                    f"{wheel.filename} has to be built from {built_from}, and only a container engine can do that",
                    hint="build once where there is an engine, and share its layers (--cache-to there, --cache-from"
                    " here), or put the wheel into a folder of pip.find_links and lock again",
                )
            with self._rebuild(wheel).open("rb") as file:
                yield iter(lambda: file.read(_BLOCK), b"")

        return Wanted(title=wheel.filename, sha256=wheel.sha256, size=wheel.size, open=opened)

    def _file_wanted(self, name: str, file: Wheel | SourceBuild) -> Wanted:
        def opened() -> AbstractContextManager[Iterable[bytes]]:
            return self._index.open(self._find(name, file))

        return Wanted(title=file.filename, sha256=file.sha256, size=file.size, open=opened)

    def _find(self, name: str, file: Wheel | SourceBuild) -> IndexFile:
        offered = self._index.files_of(file.source, name)
        found = [one for one in offered if one.filename == file.filename]
        if not found:
            raise IndexFailed(
                f"{file.source} no longer has {file.filename}",
                hint=f"take what is there now with 'envlock lock --upgrade-package {name}', or configure an index that"
                " still has it (pip's index-url)",
            )
        if all(one.sha256 not in (None, file.sha256) for one in found):
            raise HashMismatch(
                f"{file.source} has another {file.filename} than the lock",
                details=(f"expected sha256 {file.sha256}", f"found sha256 {found[0].sha256}"),
                hint="somebody replaced the file: find out why before you lock again",
            )
        return found[0]
