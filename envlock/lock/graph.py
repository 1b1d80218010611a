"""Holding what a resolver chose against the packages' own metadata, on the target: never silently wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from envlock.errors import Unresolvable
from envlock.lock.candidates import Candidate, python_fits
from envlock.lock.core_metadata import CoreMetadata
from envlock.model.lock import BasePython

SPEC = ""  # who asks for what the spec asks for


@dataclass(kw_only=True, slots=True)
class Graph:
    """Who asked for what: normalized name → names; ``SPEC`` is the spec itself."""

    required_by: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    faults: list[str] = field(default_factory=list)


def check_graph(
    requirements: Sequence[Requirement],
    constraints: Sequence[Requirement],
    chosen: Mapping[str, Candidate],
    metadata: Mapping[str, CoreMetadata],
    *,
    target: BasePython,
) -> dict[str, set[str]]:
    """Return who asked for each package that is needed; raises ``Unresolvable`` where anything does not hold."""
    graph = Graph()
    todo = [(SPEC, one) for one in requirements if applies(one, target)]
    done: set[tuple[str, str]] = set()
    while todo:
        asker, requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name not in chosen:
            graph.faults.append(f"{_who(asker)} needs {requirement}, which was not chosen")
            continue
        graph.required_by[name].add(asker)
        _check_edge(graph, asker, requirement, chosen[name])
        for extra in ("", *(canonicalize_name(extra) for extra in requirement.extras)):
            if (name, extra) not in done:
                done.add((name, extra))
                wanted = metadata[name].wanted(target.markers, (extra,) if extra else ())
                todo += [(name, one) for one in wanted]
    for constraint in constraints:
        name = canonicalize_name(constraint.name)
        if name in graph.required_by and applies(constraint, target):
            _check_edge(graph, "a constraint", constraint, chosen[name])
    _check_each(graph, chosen, metadata, target)
    if graph.faults:
        raise Unresolvable(
            "the resolver chose versions that do not fit together on the target",
            details=sorted(set(graph.faults)),
            hint="this is a fault of the resolver or of an index's metadata; try the other resolver (pip.resolver)",
        )
    return dict(graph.required_by)


def applies(requirement: Requirement, target: BasePython) -> bool:
    """Return whether a requirement's marker holds on the target."""
    return requirement.marker is None or requirement.marker.evaluate({**target.markers, "extra": ""})


def _check_edge(graph: Graph, asker: str, requirement: Requirement, candidate: Candidate) -> None:
    if not requirement.specifier.contains(candidate.version, prereleases=True):
        graph.faults.append(f"{_who(asker)} needs {requirement}, and {candidate.version} was chosen")


def _check_each(
    graph: Graph, chosen: Mapping[str, Candidate], metadata: Mapping[str, CoreMetadata], target: BasePython
) -> None:
    for name in graph.required_by:
        found, candidate = metadata[name], chosen[name]
        if found.name != name or Version(found.version) != candidate.version:
            graph.faults.append(f"{candidate.file.filename} says that it is {found.name} {found.version}")
        needed = found.requires_python or candidate.file.requires_python
        if needed and not python_fits(needed, target.version):
            graph.faults.append(f"{name} {candidate.version} needs Python {needed}, and the base has {target.version}")
        graph.faults.extend(f"{name} {candidate.version} has the requirement {line!r}" for line in found.broken)


def _who(asker: str) -> str:
    return asker or "the spec"
