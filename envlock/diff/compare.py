"""Comparing two environments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from envlock.diff.jumps import Jump, debian_jump, plain_jump, python_jump, same_but_for_local
from envlock.diff.suspects import weigh
from envlock.formats.display import one_line, short, two_lines
from envlock.formats.secrets import hide
from envlock.model.environment import Change, Comparison, Environment
from envlock.model.plan import FINGERPRINT_LABEL, PROJECT_LABEL

GROUPS = ("platform", "python", "cuda", "pip", "seeds", "apt", "env", "os", "base", "labels")

_IMAGE = "org.opencontainers.image."
# Said elsewhere: in the header, in the group "base", or by the revision.
_REPEATED = {
    ("cuda", "min_driver"),
    ("labels", FINGERPRINT_LABEL),
    *(("labels", _IMAGE + name) for name in ("created", "base.name", "base.digest")),
}
# What many sources do not say: the other side's silence means nothing.
_ONLY_IF_BOTH = {
    ("cuda", "driver"),
    ("cuda", "gpu"),
    ("cuda", "cudnn"),
    ("labels", PROJECT_LABEL),
    *(("labels", _IMAGE + name) for name in ("revision", "version", "source", "title")),
}


def compare(before: Environment, after: Environment) -> Comparison:
    """Return all that differs in what both environments say, worst suspects first.

    What one of them does not say is unknown, and no difference.
    """
    found = [change for group in GROUPS for change in _group(group, before, after)]
    changes = tuple(sorted(found, key=lambda change: (-change.weight, GROUPS.index(change.group), change.name)))
    unknown = tuple(group for group in GROUPS if _unknown(group, before) != _unknown(group, after))
    return Comparison(before=before, after=after, changes=changes, unknown=unknown, verdict=_verdict(changes, unknown))


def _unknown(group: str, environment: Environment) -> bool:
    return getattr(environment, group) is None


def _group(group: str, before: Environment, after: Environment) -> Iterator[Change]:
    old, new = _entries(group, before), _entries(group, after)
    if old is None or new is None:
        return
    some = "some" in {_scope(group, before), _scope(group, after)}
    for name in sorted(old.keys() | new.keys()):
        if (group, name) in _REPEATED:
            continue
        if name in old and name in new:
            change = _changed(group, name, old[name], new[name], some=some) or _rebuilt(group, name, before, after)
            if change is not None:
                yield change
        elif (group, name) not in _ONLY_IF_BOTH:
            has, lacks = (before, after) if name in old else (after, before)
            if _covers(group, lacks, has):
                yield _change(group, name, old.get(name), new.get(name), "removed" if name in old else "added")


def _entries(group: str, environment: Environment) -> Mapping[str, str] | None:
    value: Mapping[str, str] | str | None = getattr(environment, group)
    return {group: value} if isinstance(value, str) else value


def _scope(group: str, environment: Environment) -> str:
    return environment.scope.get(group, "all")


def _covers(group: str, lacks: Environment, has: Environment) -> bool:
    """Return whether an entry that one side lacks would be there if the environment had it."""
    return _scope(group, lacks) == "all" or (_scope(group, lacks) == _scope(group, has) == "added")


def _changed(group: str, name: str, old: str, new: str, *, some: bool) -> Change | None:
    if some and group == "pip" and same_but_for_local(old, new):
        return None  # torch's own word for itself has a local part that its wheel on the default index has not
    jump = _JUMP.get(group, _other)(old, new)
    return None if jump is None else _change(group, name, old, new, jump[0], downgrade=jump[1])


def _rebuilt(group: str, name: str, before: Environment, after: Environment) -> Change | None:
    """Return the change of a package that has the same version from another file."""
    if group != "pip" or before.hashes is None or after.hashes is None or before.pip is None or after.pip is None:
        return None
    old, new = before.hashes.get(name), after.hashes.get(name)
    if old is None or new is None or old == new:
        return None
    return _change(group, name, before.pip[name], after.pip[name], "build")


def _change(
    group: str, name: str, before: str | None, after: str | None, jump: str, *, downgrade: bool = False
) -> Change:
    weight = weigh(group, name, jump)
    if group == "env":  # compared as they are, kept without the passwords in them
        before, after = _harmless(name, before), _harmless(name, after)
    return Change(group=group, name=name, before=before, after=after, jump=jump, weight=weight, downgrade=downgrade)


def _harmless(name: str, value: str | None) -> str | None:
    return None if value is None else hide({name: value})[name]


def _other(before: str, after: str) -> Jump | None:
    return None if before == after else ("changed", False)


_JUMP: Mapping[str, Callable[[str, str], Jump | None]] = {
    "python": plain_jump,
    "cuda": plain_jump,
    "pip": python_jump,
    "apt": debian_jump,
}


def _verdict(changes: tuple[Change, ...], unknown: tuple[str, ...]) -> str:
    if not changes:
        return "same" + (f", as far as both say ({', '.join(unknown)} not known of one)" if unknown else "")
    rest = f"is the likeliest of {len(changes)} differences" if len(changes) > 1 else "is the only difference"
    return f"different: {describe(changes[0])} {rest}"


def describe(change: Change) -> str:
    """Return a change in a few words: ``numpy 1.26.4 → 2.0.1 (major)``."""
    title = _TITLES.get(change.group) or f"{_PREFIX.get(change.group, '')}{one_line(change.name)}"
    return f"{title} {arrow(change)} ({jump(change)})"


def arrow(change: Change) -> str:
    """Return both values, or the only one."""
    if change.before is None or change.after is None:
        return one_line(short(change.before or change.after or ""))
    if change.jump == "build" and change.before == change.after:
        return f"{one_line(change.after)}, another file"
    return " → ".join(two_lines(change.before, change.after))


def jump(change: Change) -> str:
    """Return how far the values are apart, and whether it goes down."""
    return f"{change.jump}, downgrade" if change.downgrade else change.jump


_TITLES = {"platform": "platform", "python": "Python", "os": "operating system"}
_PREFIX = {"cuda": "CUDA ", "apt": "apt ", "env": "env ", "base": "base ", "labels": "label ", "seeds": ""}
