"""One resolution: requirements to exactly one file for each package, checked against what the packages say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envlock.errors import EnvlockError, HashMismatch, IndexFailed, Unresolvable
from envlock.lock.build_sdist import Containers
from envlock.lock.candidates import Candidate, Policy
from envlock.lock.graph import SPEC, applies, check_graph
from envlock.lock.python_failures import explain
from envlock.lock.simple_index import SimpleIndex
from envlock.model.lock import Wheel
from envlock.ports import Artifacts, IndexFile, PackageIndex, Progress, Resolver

_AT_ONCE = 8  # files whose hashes or sizes are found out


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """The parts of the world that a resolution asks."""

    index: PackageIndex
    resolver: Resolver
    artifacts: Artifacts
    containers: Containers  # of the base; with a handler, or with nothing to fetch from
    progress: Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """What was chosen: normalized name → candidate, and who asked (``SPEC``: the requirements themselves)."""

    chosen: Mapping[str, Candidate]
    required_by: Mapping[str, set[str]]


def resolve(
    requirements: Sequence[str],
    *,
    constraints: Sequence[str] = (),
    preferred: Mapping[str, str] | None = None,
    policy: Policy,
    means: Means,
    sdist_metadata: Callable[[Candidate], bytes] | None = None,
    title: str = "Resolving Python packages",
) -> Resolved:
    """Resolve; raises ``Unresolvable`` (with what to do about it), ``IndexFailed``."""
    target = policy.interpreter.python
    wanted = [one for line in requirements if applies(one := Requirement(line), target)]
    if not wanted:
        return Resolved(chosen={}, required_by={})
    bounds = [Requirement(line) for line in constraints]
    simple = SimpleIndex(means.index, policy, sdist_metadata=sdist_metadata)
    with means.progress.task(title) as task, simple.prefetching():
        for requirement in wanted:
            simple.expect(requirement)
        with means.containers(simple) as container:
            try:
                found = means.resolver.resolve(
                    requirements=[str(one) for one in wanted],
                    constraints=constraints,
                    preferred=fitting(preferred or {}, [*wanted, *bounds]),
                    handler=simple,
                    container=container,
                    target=target,
                    on_line=task.note,
                )
            except EnvlockError as error:
                if simple.failure is not None:  # the cause of whatever the resolver says
                    raise simple.failure from None
                if isinstance(error, Unresolvable):
                    raise explain(error, simple, wanted, bounds) from None
                raise
        if simple.failure is not None:  # a project that could not be asked looks like one that does not exist
            raise simple.failure
        task.note("checking what was chosen")
        return _checked(found.pins, wanted, bounds, simple, policy)


def _checked(
    pins: Mapping[str, str],
    wanted: Sequence[Requirement],
    bounds: Sequence[Requirement],
    simple: SimpleIndex,
    policy: Policy,
) -> Resolved:
    names = sorted(pins)
    candidates = {name: simple.offer(name).candidates.get(Version(pins[name])) for name in names}
    if strange := [f"{name}=={pins[name]}" for name in names if candidates[name] is None]:
        raise Unresolvable("the resolver chose what no index offers for the target", details=strange)
    chosen = {name: candidate for name, candidate in candidates.items() if candidate is not None}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        metadata = dict(zip(chosen, pool.map(simple.core_metadata, chosen.values()), strict=True))
    required_by = check_graph(wanted, bounds, chosen, metadata, target=policy.interpreter.python)
    return Resolved(chosen={name: chosen[name] for name in sorted(required_by)}, required_by=required_by)


def fitting(preferred: Mapping[str, str], bounds: Sequence[Requirement]) -> dict[str, str]:
    """Return the pins so far that the requirements and constraints still allow."""
    refused = {
        name
        for one in bounds
        if (name := canonicalize_name(one.name)) in preferred
        and not one.specifier.contains(preferred[name], prereleases=True)
    }
    return {name: version for name, version in sorted(preferred.items()) if name not in refused}


def pinned(resolved: Resolved, *, policy: Policy, means: Means) -> tuple[Wheel, ...]:
    """Return the chosen wheels with hash and size, sorted by name; sdists among them are not for here.

    What an index does not say is found out: the size from the file's server, the hash by fetching the file. Raises
    ``IndexFailed``, ``HashMismatch`` where a requirements file allows other hashes only.
    """
    candidates = [one for one in resolved.chosen.values() if not one.is_sdist]
    with (
        means.progress.task("Collecting hashes", total=len(candidates), unit="files") as task,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        wheels = []
        for candidate, wheel in zip(candidates, pool.map(lambda one: pin(one, means), candidates), strict=True):
            _check_hash(wheel, policy)
            by = resolved.required_by[candidate.name]
            wheels.append(replace(wheel, required_by=tuple(sorted(by - {SPEC})), requested=SPEC in by))
            task.advance()
    return tuple(wheels)


def pin(candidate: Candidate, means: Means) -> Wheel:
    """Return a candidate's file with its hash and size."""
    file = candidate.file
    sha256, size = identity(file, means)
    return Wheel(
        name=candidate.name,
        version=str(candidate.version),
        source=file.source,
        filename=file.filename,
        sha256=sha256,
        size=size,
    )


def identity(file: IndexFile, means: Means) -> tuple[str, int]:
    """Return a file's sha256 and size; raises ``IndexFailed``."""
    size = file.size
    if size is None and file.sha256 is not None:
        size = means.index.size(file)
    if file.sha256 is not None and size is not None:
        return file.sha256, size
    with means.index.open(file) as blocks:
        if not file.url.startswith("file:"):
            found, size, _ = means.artifacts.add(blocks)  # it is needed again for the build
        else:
            digest, size = hashlib.sha256(), 0
            for block in blocks:
                digest.update(block)
                size += len(block)
            found = digest.hexdigest()
    if file.sha256 not in (None, found):
        raise IndexFailed(f"{file.source} says that {file.filename} has the sha256 {file.sha256}, and served {found}")
    return found, size


def _check_hash(wheel: Wheel, policy: Policy) -> None:
    allowed = (policy.hashes or {}).get(wheel.name)
    if allowed and wheel.sha256 not in allowed:
        raise HashMismatch(
            f"{wheel.filename} is not one of the files that the requirements allow for {wheel.name} (--hash)",
            details=(f"found sha256 {wheel.sha256}",),
        )
