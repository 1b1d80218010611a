"""Which file of each version fits the target: at most one, the same one for whoever asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import product

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from envlock.errors import InputError
from envlock.lock.interpreter import Interpreter
from envlock.model.lock import Wheel
from envlock.ports import IndexFile

_SDISTS = (".tar.gz", ".zip")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """The file that stands for one version of a package."""

    name: str
    version: Version
    file: IndexFile
    python_fits: bool  # Requires-Python

    @property
    def is_sdist(self) -> bool:
        """Return whether it has to be built first."""
        return self.file.filename.endswith(_SDISTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What may be chosen."""

    interpreter: Interpreter
    as_of: str | None = None  # ISO 8601 in UTC; a date means its first moment
    sdist: frozenset[str] = frozenset()  # names that may be built
    hashes: Mapping[str, Sequence[str]] | None = None  # name → sha256 of the only files that may be chosen
    kept: Mapping[str, Wheel] | None = None  # what the lock so far has: its files stay where its versions do


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A package as the target sees it."""

    name: str
    candidates: Mapping[Version, Candidate]  # newest first
    hidden: tuple[IndexFile, ...]  # files of versions that nothing fits of
    total: int  # files that the sources have

    def best(self, specifier: SpecifierSet) -> Candidate | None:
        """Return the newest that a resolver would try first."""
        fitting = [one for one in self.candidates.values() if one.python_fits and specifier.contains(one.version)]
        return next((one for one in fitting if not one.file.yanked), next(iter(fitting), None))


class Chooser:
    """Chooses by a policy, for one target."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._ranks = {tag: rank for rank, tag in enumerate(policy.interpreter.tags)}
        self._python = policy.interpreter.python.version
        self._until = moment(policy.as_of) if policy.as_of else None

    def offer(self, name: str, files: Iterable[IndexFile]) -> Offer:
        """Sort a package's files; raises ``InputError`` where a file's age matters and nobody says it."""
        found: dict[Version, tuple[tuple[object, ...], Candidate]] = {}
        hidden: dict[IndexFile, Version] = {}
        total = 0
        for file in files:
            total += 1
            version = version_of(file.filename)
            if version is None or not self._allowed(name, file) or not self._old_enough(name, file):
                continue
            rank = self._rank(name, file)
            if rank is None:
                hidden[file] = version
                continue
            fits = not file.requires_python or python_fits(file.requires_python, self._python)
            order = (not self._is_kept(name, file), not fits, file.yanked, *rank, file.filename)
            if version not in found or order < found[version][0]:
                candidate = Candidate(name=name, version=version, file=file, python_fits=fits)
                found[version] = (order, candidate)
        return Offer(
            name=name,
            candidates={version: found[version][1] for version in sorted(found, reverse=True)},
            hidden=tuple(file for file, version in hidden.items() if version not in found),
            total=total,
        )

    def _rank(self, name: str, file: IndexFile) -> tuple[int, int, str] | None:
        """Return how good a file fits, smaller is better: best tag, then highest build number, as pip has it."""
        if file.filename.endswith(_SDISTS):
            return (len(self._ranks), 0, "") if name in self._policy.sdist else None
        *front, pythons, abis, platforms = file.filename.removesuffix(".whl").split("-")
        tags = ("-".join(tag) for tag in product(pythons.split("."), abis.split("."), platforms.split(".")))
        rank = min((self._ranks[tag] for tag in tags if tag in self._ranks), default=None)
        if rank is None:
            return None
        build = front[2] if len(front) > 2 else ""  # noqa: PLR2004 - name, version, build
        digits = build[: len(build) - len(build.lstrip("0123456789"))]
        return rank, -int(digits or "-1"), build[len(digits) :]

    def _is_kept(self, name: str, file: IndexFile) -> bool:
        wheel = (self._policy.kept or {}).get(name)
        if wheel is None:
            return False
        origin = wheel.built_from or wheel
        return (
            file.filename == origin.filename and file.source == origin.source and file.sha256 in (None, origin.sha256)
        )

    def _allowed(self, name: str, file: IndexFile) -> bool:
        hashes = (self._policy.hashes or {}).get(name)
        return not hashes or file.sha256 is None or file.sha256 in hashes

    def _old_enough(self, name: str, file: IndexFile) -> bool:
        if self._until is None or file.url.startswith("file:"):
            return True
        if file.uploaded is None:
            raise InputError(
                f"as_of is {self._policy.as_of}, but {file.source} does not say when the files of {name} were uploaded",
                hint="leave as_of out and pin the versions instead, or use an index that says it (PEP 700)",
            )
        return moment(file.uploaded) <= self._until


def moment(text: str) -> datetime:
    """Read an ISO 8601 date (its first moment) or date-time; UTC where it says nothing else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is not a date or a time (ISO 8601)") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def version_of(filename: str) -> Version | None:
    """Return the version in the name of a wheel or sdist, or None where there is no valid one."""
    if filename.endswith(".whl"):
        return _version(filename.split("-", 2)[1])
    for suffix in _SDISTS:
        if filename.endswith(suffix):
            return _version(filename.removesuffix(suffix).rpartition("-")[2])
    return None


@lru_cache(maxsize=20_000)
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


@lru_cache(maxsize=2_000)
def python_fits(requires_python: str, version: str) -> bool:
    """Return whether a Requires-Python takes a version; one that nobody understands excludes none, as in pip."""
    try:
        return SpecifierSet(requires_python).contains(version, prereleases=True)
    except InvalidSpecifier:
        return True
