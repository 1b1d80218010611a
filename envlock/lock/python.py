"""Python packages: exactly one file for each, for the base's own interpreter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from envlock.errors import Unresolvable
from envlock.lock.build_sdist import Containers
from envlock.lock.candidates import Policy
from envlock.lock.graph import SPEC
from envlock.lock.interpreter import Interpreter
from envlock.lock.resolution import Means, Resolved, pin, pinned, resolve
from envlock.lock.sdists import SourceBuilds
from envlock.lock.simple_index import SimpleIndex
from envlock.model.lock import Lock, PythonSource, Wheel
from envlock.model.spec import Pip, Requested
from envlock.ports import Artifacts, PackageIndex, Progress, Resolver

INSTALLER = "pip"


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonLock:
    """The Python part of a lock."""

    wheels: tuple[Wheel, ...]  # sorted by name
    sources: tuple[PythonSource, ...]  # those that something comes from, in the spec's order
    installer: Wheel


def lock_python(
    requested: Requested,
    *,
    interpreter: Interpreter,
    containers: Containers,
    index: PackageIndex,
    resolver: Resolver,
    artifacts: Artifacts,
    previous: Lock | None,
    upgrade: bool = False,
    upgrade_packages: Collection[str] = (),
    progress: Progress,
) -> PythonLock:
    """Resolve what the spec asks for.

    ``containers`` starts containers of the base: with a handler for the resolver, without one (nothing can be fetched)
    for builds. What ``previous`` pins stays where requirements and upgrades let it. Raises ``Unresolvable`` (conflict,
    no wheel for the target, a build that fails), ``IndexFailed``, ``StorageError``.
    """
    means = Means(index=index, resolver=resolver, artifacts=artifacts, containers=containers, progress=progress)
    free = {canonicalize_name(name) for name in upgrade_packages}
    kept = {} if previous is None or upgrade else {one.name: one for one in previous.wheels if one.name not in free}
    policy = Policy(
        interpreter=interpreter,
        as_of=requested.spec.as_of,
        sdist=frozenset(requested.spec.pip.sdist),
        hashes=requested.hashes,
        kept=kept,
    )
    keep_installer = previous.installer if previous and not upgrade and INSTALLER not in free else None
    installer = _installer(keep_installer, policy=policy, means=means)
    builds = _builds(policy, means, installer, kept)
    resolved = resolve(
        requested.requirements,
        constraints=requested.constraints,
        preferred={name: wheel.version for name, wheel in kept.items()},
        policy=policy,
        means=means,
        sdist_metadata=builds.metadata,
    )
    wheels = [*pinned(resolved, policy=policy, means=means), *_built(resolved, builds)]
    wheels.sort(key=lambda wheel: wheel.name)
    sources = _used(python_sources(requested.spec.pip), [*wheels, installer])
    return PythonLock(wheels=tuple(wheels), sources=sources, installer=installer)


def python_sources(pip: Pip) -> tuple[PythonSource, ...]:
    """Return all sources that a spec may take packages from, the default index first."""
    return (
        PythonSource(name="default", kind="index"),
        *(
            PythonSource(name=one.name, kind="index", location=one.url, packages=tuple(sorted(one.packages)))
            for one in pip.indexes
        ),
        *(PythonSource(name=one.name, kind="find-links", location=one.path) for one in pip.find_links),
    )


def _used(sources: Sequence[PythonSource], wheels: Iterable[Wheel]) -> tuple[PythonSource, ...]:
    names: set[str] = set()
    for wheel in wheels:
        names.add(wheel.source)
        if wheel.built_from is not None:
            names |= {wheel.built_from.source, *(one.source for one in wheel.built_from.build_requires)}
    return tuple(source for source in sources if source.name in names)


def _installer(kept: Wheel | None, *, policy: Policy, means: Means) -> Wheel:
    """Return the pip that installs: the newest that the target's Python takes, unless the lock so far has one."""
    simple = SimpleIndex(
        means.index, replace(policy, hashes=None, sdist=frozenset(), kept={INSTALLER: kept} if kept else {})
    )
    offer = simple.offer(INSTALLER)
    if kept is not None:
        here = [one.file for one in offer.candidates.values() if one.file.filename == kept.filename]
        if any(file.sha256 in (None, kept.sha256) for file in here):
            return kept
    candidate = offer.best(SpecifierSet())
    if candidate is None:
        raise Unresolvable(
            f"no index has a {INSTALLER} for Python {policy.interpreter.python.version}, which installs the packages",
            hint=f"offer a wheel of {INSTALLER} in the default index or in a folder of pip.find_links"
            + (f"; as_of: {policy.as_of} hides everything newer" if policy.as_of else ""),
        )
    return pin(candidate, means)


def _builds(policy: Policy, means: Means, installer: Wheel, kept: dict[str, Wheel]) -> SourceBuilds:
    build_policy = replace(policy, sdist=frozenset(), hashes=None, kept={})

    def resolve_build(requirements: Sequence[str]) -> tuple[Wheel, ...]:
        resolved = resolve(requirements, policy=build_policy, means=means, title="Resolving build requirements")
        return pinned(resolved, policy=build_policy, means=means)

    return SourceBuilds(
        means=means,
        interpreter=policy.interpreter,
        installer=lambda: installer,
        resolve=resolve_build,
        locked=kept.values(),
    )


def _built(resolved: Resolved, builds: SourceBuilds) -> list[Wheel]:
    found = []
    for candidate in resolved.chosen.values():
        if candidate.is_sdist:
            by = resolved.required_by[candidate.name]
            wheel = builds.wheel(candidate)
            found.append(replace(wheel, required_by=tuple(sorted(by - {SPEC})), requested=SPEC in by))
    return found
