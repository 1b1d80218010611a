"""Locking apt packages: the whole closure of what the base lacks, resolved by the base's own apt."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from envlock.errors import AptError, InputError
from envlock.formats.debian import DebianFormatError, InstalledPackage, architecture, installed_packages
from envlock.lock.apt_failures import conflict, settle_names, update_failed
from envlock.lock.apt_gateway import AptGateway
from envlock.lock.apt_repositories import Repository, apt_files, find_repositories
from envlock.lock.apt_tool import FOLDER, AptFailed, AptTool, Download, Simulation
from envlock.model.lock import AptSource, Deb, Lock
from envlock.model.spec import AptRequest, Requested, Spec
from envlock.ports import Container, Progress

_KEEP = 995  # above every default, below what makes apt put an older version in an installed one's place (1000)
_TOGETHER = 1001  # packages of one source go along with a pinned one, also to an older version
_ATTEMPTS = 12
_EXACT = re.compile(r"Depends: (\S+) \(= (\S+)\) but \S+ is to be installed")


@dataclass(frozen=True, kw_only=True, slots=True)
class AptLock:
    """The apt part of a lock."""

    sources: tuple[AptSource, ...] = ()
    debs: tuple[Deb, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Question:
    """What is asked of apt."""

    packages: tuple[AptRequest, ...]  # those that the base does not answer as it is
    kept: tuple[Deb, ...]  # of the lock so far: these versions are preferred
    installed: Mapping[str, InstalledPackage]  # in the base


def lock_apt(
    requested: Requested,
    *,
    container: Container,
    gateway: AptGateway,
    previous: Lock | None,
    upgrade: Collection[str] = (),
    progress: Progress,
) -> AptLock:
    """Lock the spec's apt packages for the base that ``container`` runs, whose requests ``gateway`` answers.

    What ``previous`` has stays at its version while the archive has it and nothing that is asked for contradicts; names
    in ``upgrade`` may move. Hashes come from apt's indexes, which are signed. Raises ``InputError`` (a base without
    apt), ``Unresolvable`` (no such package or version, conflicts), ``AptError`` (unreachable, unsigned, expired).
    """
    spec = requested.spec
    if not spec.apt.packages:
        return AptLock()
    tool = AptTool(container, gateway)
    if not tool.available():
        raise InputError(
            f"the base {spec.base} has no apt, and the spec asks for apt packages ({_listed(spec.apt.packages)})",
            hint="choose a base that is made from Debian or Ubuntu, or take the packages out",
        )
    installed = _installed(container, spec)
    wanted = _lacking(spec.apt.packages, installed)
    if not wanted:
        return AptLock()
    etc_apt = dict(container.files("/etc/apt"))
    repositories = find_repositories(
        spec, keys=requested.keys, etc_apt=etc_apt, archive=gateway.archive, progress=progress
    )
    files, routes = apt_files(repositories, gateway=gateway, folder=FOLDER)
    tool.prepare({**files, **_own_preferences(etc_apt)})
    _update(tool, gateway, repositories, progress)
    kept = tuple(deb for deb in (previous.debs if previous else ()) if deb.name not in upgrade)
    with progress.task("Resolving apt packages"):
        settled = _lacking(settle_names(tool, wanted, base=spec.base), installed)
        question = _Question(packages=settled, kept=kept, installed=installed)
        simulation = _resolve(tool, question)
    _report(tool, simulation, question, progress)
    return _locked(simulation, {request.name for request in (*spec.apt.packages, *settled)}, routes)


def _listed(packages: Sequence[AptRequest]) -> str:
    return ", ".join(map(str, packages))


# --- what the base has ------------------------------------------------------------------------------------------------


def _installed(container: Container, spec: Spec) -> dict[str, InstalledPackage]:
    content = container.read("/var/lib/dpkg/status")
    try:
        packages = installed_packages((content or b"").decode("utf-8", "replace"))
    except DebianFormatError as error:
        raise InputError(f"the base {spec.base} has a damaged dpkg status: {error}") from error
    native = {architecture(spec.platform), "all"}
    found = {f"{package.name}:{package.architecture}": package for package in packages}
    found |= {package.name: package for package in packages if package.architecture in native}
    return found


def _lacking(packages: Sequence[AptRequest], installed: Mapping[str, InstalledPackage]) -> tuple[AptRequest, ...]:
    """Return the requests without those for what is installed; a pinned one stays, so that nothing else moves it.

    A plain name that is installed must not be given to apt: it would bring it to the newest version.
    """
    unmet = [request for request in packages if not _met(request, installed)]
    pinned = [request for request in packages if request.version is not None and request not in unmet]
    return tuple(sorted((*unmet, *pinned), key=str)) if unmet else ()


def _met(request: AptRequest, installed: Mapping[str, InstalledPackage]) -> bool:
    package = installed.get(request.name)
    return package is not None and request.version in (None, package.version)


# --- asking apt -------------------------------------------------------------------------------------------------------


def _update(tool: AptTool, gateway: AptGateway, repositories: Sequence[Repository], progress: Progress) -> None:
    with progress.task("Reading apt repositories") as task:

        def note(line: str) -> None:
            match = re.match(r"Get:\d+ (.*)", line)
            if match:
                task.note(gateway.readable(match.group(1)))

        try:
            tool.update(note)
        except AptFailed as failed:
            raise update_failed(failed, repositories, cause=next(iter(gateway.failures), None)) from failed


def _own_preferences(etc_apt: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the base's own pins, at the place where apt looks now."""
    folder = "preferences.d/"
    return {
        f"{FOLDER}/preferences/{path.removeprefix(folder)}": content
        for path, content in etc_apt.items()
        if path.startswith(folder) and "/" not in path.removeprefix(folder)
    }


def _resolve(tool: AptTool, question: _Question) -> Simulation:
    """Resolve with everything kept that can be.

    Where apt fails, what it names decides how it is asked again: a version that something needs exactly is preferred,
    and what was to be kept is set free.
    """
    together = _together(tool, question.packages)
    kept = list(question.kept)
    packages = [str(request) for request in question.packages]
    for attempt in range(_ATTEMPTS + 1):
        tool.prepare({f"{FOLDER}/preferences/00envlock": _preferences(together, kept).encode()})
        try:
            return tool.simulate(packages)
        except AptFailed as failed:
            exact = set(_EXACT.findall("\n".join(failed.lines))) - set(together)
            if exact and attempt < _ATTEMPTS - 1:
                together += sorted(exact)
                continue
            if not kept:
                raise conflict(question.packages, failed) from failed
            obstacles = set(re.findall(r"[a-z0-9][a-z0-9+.-]+", " ".join(failed.lines)))
            free = [deb for deb in kept if deb.name not in obstacles]
            # As good as any other last resort: everything may move, and the user is told what did
            kept = free if len(free) < len(kept) and attempt < _ATTEMPTS - 1 else []
    raise AssertionError("the last attempt keeps nothing, and so returns or raises")  # pragma: no cover


def _together(tool: AptTool, packages: Iterable[AptRequest]) -> list[tuple[str, str]]:
    """Return the source packages of the pinned ones, with the version.

    apt does not take the older of two versions only because the pinned package needs it of its sibling; a person would.
    """
    pinned = [(request.name, request.version) for request in packages if request.version is not None]
    return [(f"src:{tool.source_of(name, version)}", version) for name, version in pinned]


def _preferences(together: Iterable[tuple[str, str]], kept: Iterable[Deb]) -> str:
    """Return apt_preferences(5)."""
    pins = [(package, version, _TOGETHER) for package, version in together]
    pins += [
        (f"{deb.name}:{deb.architecture}" if deb.architecture != "all" else deb.name, deb.version, _KEEP)
        for deb in kept
    ]
    return "\n".join(
        f"Package: {package}\nPin: version {version}\nPin-Priority: {priority}\n" for package, version, priority in pins
    )


# --- the answer -------------------------------------------------------------------------------------------------------


def _report(tool: AptTool, simulation: Simulation, question: _Question, progress: Progress) -> None:
    if simulation.removed:
        progress.message(f"apt: this takes out of the base: {', '.join(simulation.removed)}")
    asked = {request.name for request in question.packages}
    for download in simulation.downloads:
        before = question.installed.get(f"{download.name}:{download.architecture}")
        if before is not None and before.version != download.version and download.name not in asked:
            progress.message(f"apt: this moves the base's {download.name} from {before.version} to {download.version}")
    now = {(download.name, download.architecture): download.version for download in simulation.downloads}
    pinned = {request.name for request in question.packages if request.version is not None}
    moved = [
        deb
        for deb in question.kept
        if deb.name not in pinned and now.get((deb.name, deb.architecture), deb.version) != deb.version
    ]
    if not moved:
        return
    available = tool.versions(deb.name for deb in moved)
    for deb in moved:
        gone = deb.version not in available.get(deb.name, ())
        reason = f"is no longer in {deb.source}" if gone else "does not fit what is asked for now"
        progress.message(f"apt: {deb.name} {deb.version} {reason}; took {now[deb.name, deb.architecture]}")


def _locked(simulation: Simulation, names: Collection[str], routes: Mapping[str, Repository]) -> AptLock:
    debs = [_deb(download, routes, names) for download in simulation.downloads]
    used = {deb.source for deb in debs}
    sources: dict[str, AptSource] = {}
    for repository in routes.values():
        if repository.name in used or repository.declared is not None:
            before = sources.get(repository.name)
            components = (*(before.components if before else ()), *repository.entry.components)
            sources[repository.name] = repository.source(tuple(dict.fromkeys(components)))
    return AptLock(
        sources=tuple(source for _, source in sorted(sources.items())),
        debs=tuple(sorted(set(debs), key=lambda deb: (deb.name, deb.architecture))),
    )


def _deb(download: Download, routes: Mapping[str, Repository], names: Collection[str]) -> Deb:
    repository = routes[download.address]
    if download.sha256 is None:
        raise AptError(
            f"the apt repository {repository.name} gives no SHA256 for {download.name} {download.version}",
            hint="its operator has to make its indexes with SHA256 hashes",
        )
    deb = Deb(
        name=download.name,
        version=download.version,
        architecture=download.architecture,
        source=repository.name,
        path=download.path,
        sha256=download.sha256,
        size=download.size,
    )
    requested = bool({deb.name, f"{deb.name}:{deb.architecture}"} & set(names))
    return replace(deb, requested=requested)
