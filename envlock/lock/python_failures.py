"""Why requirements cannot be met on the target, beyond what a resolver can know: it only sees what fits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envlock.errors import EnvlockError, Unresolvable
from envlock.lock.candidates import Offer, version_of
from envlock.lock.simple_index import SimpleIndex

_SHOWN = 4  # files or versions of one package


def explain(
    error: Unresolvable, simple: SimpleIndex, requirements: Sequence[Requirement], constraints: Sequence[Requirement]
) -> Unresolvable:
    """Return the error with what is known of the packages that it names."""
    text = "\n".join([error.message, *error.details])
    direct: dict[str, Requirement] = {canonicalize_name(one.name): one for one in requirements}
    bounds: dict[str, Requirement] = {canonicalize_name(one.name): one for one in constraints}
    reasons: list[str] = []
    hints: list[str] = []
    for name in dict.fromkeys([*direct, *simple.asked]):
        if name not in direct and not _names(text, name):
            continue
        try:
            offer = simple.offer(name)
        except EnvlockError:
            continue
        for reason, hint in _reasons(offer, [one for one in (direct.get(name), bounds.get(name)) if one], text):
            reasons.append(reason)
            hints.append(hint)
    if not reasons:
        return error
    hint = next((one for one in hints if one), "") or error.hint
    return Unresolvable(error.message, details=(*reasons, *error.details), hint=hint)


def _names(text: str, name: str) -> bool:
    pattern = re.escape(name).replace(r"\-", "[-_.]+")
    return re.search(rf"(?<![A-Za-z0-9._-]){pattern}(?![A-Za-z0-9_-])", text, re.IGNORECASE) is not None


def _reasons(offer: Offer, asked: Sequence[Requirement], text: str) -> Iterator[tuple[str, str]]:
    """Yield (what is the matter, what to do) where the target rules out what would otherwise do."""
    name = offer.name
    if not offer.total:
        yield f"no index has a package {name}", "check its spelling, or name its index in pip.indexes"
        return
    fitting = [
        one
        for one in offer.candidates.values()
        if one.python_fits and all(r.specifier.contains(one.version, prereleases=True) for r in asked)
    ]
    if fitting:
        return
    hidden = [
        file
        for file in offer.hidden
        if (version := version_of(file.filename))
        and all(r.specifier.contains(version, prereleases=True) for r in asked)
    ]
    exact = [named for file in hidden if _names(text, name) and (named := file)]
    if exact:
        yield from _not_for_the_target(name, [file.filename for file in exact])
        return
    python = [one for one in offer.candidates.values() if not one.python_fits]
    wanted = [one for one in python if all(r.specifier.contains(one.version, prereleases=True) for r in asked)]
    if wanted:
        one = wanted[0]
        yield f"{name} {one.version} needs Python {one.file.requires_python}", "choose a base with such a Python"
        return
    versions = [str(one.version) for one in offer.candidates.values() if one.python_fits]
    if versions and asked:
        shown = ", ".join(versions[:_SHOWN])
        yield f"{name}: the newest versions for the target are {shown}", f"ask for one of these versions of {name}"


def _not_for_the_target(name: str, filenames: Sequence[str]) -> Iterator[tuple[str, str]]:
    wheels = [one for one in filenames if one.endswith(".whl")]
    sdists = [one for one in filenames if not one.endswith(".whl")]
    if wheels:
        shown = ", ".join(wheels[-_SHOWN:]) + (f" and {len(wheels) - _SHOWN} more" if len(wheels) > _SHOWN else "")
        text = f"{name} has no wheel for the target, only for others: {shown}"
        yield text, "choose a base with a Python, a platform and a libc that it has wheels for" if not sdists else ""
    if sdists:
        text = f"{name} has no wheel for the target, but a source distribution: {sdists[-1]}"
        yield text, f"allow building it in the base: sdist: [{name}] under pip in the spec"
