"""A start from ``pyproject.toml``: the project's dependencies, and the extras and groups that are asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from envlock.errors import Fault, SpecError, UsageError
from envlock.formats.requirement import BadRequirement, canonical
from envlock.formats.text import quote
from envlock.init.found import Found, LeftOut, as_name

# The first of these that the project allows: what most wheels exist for comes first.
PREFERRED_PYTHONS = ("3.11", "3.12", "3.10", "3.13", "3.14", "3.9", "3.8")


def from_pyproject(text: str, *, file: str, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Found:
    """Return what a project says of itself (PEP 621, PEP 735); raises ``SpecError`` and ``UsageError``."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError([Fault(file=file, message=f"not TOML: {error}")]) from None
    project = _mapping(data.get("project"))
    optional = _by_name(project.get("optional-dependencies"))
    all_groups = _by_name(data.get("dependency-groups"))
    lines = [*_strings(project.get("dependencies"))]
    for extra in _known(extras, optional, word="extra", file=file):
        lines += _strings(optional[extra])
    for group in _known(groups, all_groups, word="group", file=file):
        lines += _group(group, all_groups, inside=())
    packages, left_out = _sorted_out(lines, own_name=str(project.get("name", "")), optional=optional)
    left_out += list(_unread(data, project, extras=extras, groups=groups))
    python, why = _python(project.get("requires-python"))
    return Found(
        source=file,
        name=as_name(str(project.get("name", ""))),
        python=python,
        python_why=why,
        packages=tuple(packages),
        left_out=tuple(left_out),
    )


def _known(names: Sequence[str], table: Mapping[str, Any], *, word: str, file: str) -> Iterator[str]:
    for name in names:
        if canonicalize_name(name) not in table:
            hint = f"it has: {', '.join(sorted(table))}" if table else f"it has no {word}s"
            raise UsageError(f"{file} has no {word} {quote(name)}", hint=hint)
        yield canonicalize_name(name)


def _group(name: str, groups: Mapping[str, Any], *, inside: tuple[str, ...]) -> list[str]:
    """Return a group's requirements, with those of the groups that it includes (PEP 735)."""
    found: list[str] = []
    entries = groups.get(name)
    for entry in entries if isinstance(entries, list) else []:
        included = canonicalize_name(str(entry.get("include-group", ""))) if isinstance(entry, dict) else ""
        if isinstance(entry, str):
            found.append(entry)
        elif included in groups and included not in (*inside, name):
            found += _group(included, groups, inside=(*inside, name))
    return found


def _sorted_out(
    lines: Iterable[str], *, own_name: str, optional: Mapping[str, Any]
) -> tuple[dict[str, None], list[LeftOut]]:
    packages: dict[str, None] = {}
    left_out: list[LeftOut] = []
    waiting, seen = list(lines), set[str]()
    while waiting:
        line = waiting.pop(0).strip()
        try:
            requirement = Requirement(canonical(line))
        except BadRequirement as error:
            left_out.append(LeftOut(what=quote(line)[1:-1], why=error.hint or error.message))
            continue
        if requirement.name == canonicalize_name(own_name):
            # an extra that is made of the project's other extras: demo[train,plots]
            fresh = {canonicalize_name(extra) for extra in requirement.extras} - seen
            seen |= fresh
            waiting += [item for extra in sorted(fresh) for item in _strings(optional.get(extra))]
        else:
            packages.setdefault(str(requirement))
    return packages, left_out


def _unread(
    data: Mapping[str, Any], project: Mapping[str, Any], *, extras: Sequence[str], groups: Sequence[str]
) -> Iterator[LeftOut]:
    if "dependencies" in _strings(project.get("dynamic")):
        yield LeftOut(what="dependencies (dynamic)", why="the build backend makes them: list them under pip.packages")
    tool = _mapping(data.get("tool"))
    if _mapping(_mapping(tool.get("poetry")).get("dependencies")):
        yield LeftOut(what="[tool.poetry.dependencies]", why="not in the [project] table: list them under pip.packages")
    if _mapping(tool.get("uv")).get("sources"):
        yield LeftOut(
            what="[tool.uv.sources]", why="declare indexes under pip.indexes and folders under pip.find_links"
        )
    rest = (
        ("extra", "--extra", _mapping(project.get("optional-dependencies")), extras),
        ("dependency group", "--group", _mapping(data.get("dependency-groups")), groups),
    )
    for word, option, table, taken in rest:
        chosen = {canonicalize_name(name) for name in taken}
        for name in table:
            if canonicalize_name(name) not in chosen:
                yield LeftOut(
                    what=f"{word} {quote(name)[1:-1]}", why=f"not asked for; {option} {quote(name)[1:-1]} adds it"
                )


def _python(requires: object) -> tuple[str | None, str]:
    try:
        allowed = SpecifierSet(requires) if isinstance(requires, str) else None
    except InvalidSpecifier:
        allowed = None
    if allowed is None:
        return None, ""
    # a late micro version, so that ">=3.10.2" allows 3.10
    fits = (version for version in PREFERRED_PYTHONS if allowed.contains(f"{version}.99"))
    return next(fits, None), f"the project allows {requires}"


def _by_name(value: object) -> dict[str, Any]:
    return {str(canonicalize_name(name)): found for name, found in _mapping(value).items()}


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
