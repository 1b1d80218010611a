"""How far apart two versions are."""

from __future__ import annotations

import re
from typing import Literal

from packaging.version import InvalidVersion, Version

from envlock.formats.debian import DebianFormatError, version_key

Size = Literal["major", "minor", "patch", "local", "build", "changed"]
Jump = tuple[Size, bool]  # how far, and whether it goes down


def python_jump(before: str, after: str) -> Jump | None:
    """Return the jump between two versions of a Python package (PEP 440), None where they mean the same.

    Pre-, post- and development releases of one release are a patch apart.
    """
    old, new = _version(before), _version(after)
    if old is None or new is None:
        return None if before == after else ("changed", False)
    if old == new:
        return None
    if old.public == new.public:
        return "local", new < old
    old_release, new_release = (_padded((version.epoch, *version.release)) for version in (old, new))
    size: Size = "patch"
    if old_release[:2] != new_release[:2]:
        size = "major"
    elif old_release[2] != new_release[2]:
        size = "minor"
    return size, new < old


def debian_jump(before: str, after: str) -> Jump | None:
    """Return the jump between two versions of a Debian package; another revision of one upstream is a "build".

    Source: Debian policy §5.6.12.
    """
    try:
        old_key, new_key = version_key(before), version_key(after)
    except DebianFormatError:
        return None if before == after else ("changed", False)
    if old_key == new_key:
        return None
    down = new_key < old_key
    (old_epoch, old_upstream), (new_epoch, new_upstream) = _split(before), _split(after)
    if (old_epoch, old_upstream) == (new_epoch, new_upstream):
        return "build", down
    old, new = _numbers(old_upstream), _numbers(new_upstream)
    if old_epoch != new_epoch or old[0] != new[0]:
        return "major", down
    return ("minor" if old[1] != new[1] else "patch"), down


def plain_jump(before: str, after: str) -> Jump | None:
    """Return the jump between two dotted versions of other things (Python itself, CUDA, a driver)."""
    return python_jump(before, after)


def same_but_for_local(before: str, after: str) -> bool:
    """Return whether one version says a local part (``+cu118``) and the other, else the same, says none."""
    old, new = _version(before), _version(after)
    if old is None or new is None or old.public != new.public:
        return False
    return (old.local is None) != (new.local is None)


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _padded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (*numbers, 0, 0, 0)[: max(4, len(numbers))]


def _split(version: str) -> tuple[str, str]:
    epoch, colon, rest = version.partition(":")
    upstream, dash, revision = (rest if colon else version).rpartition("-")
    return (epoch.lstrip("0") if colon else ""), (upstream if dash else revision)


def _numbers(upstream: str) -> tuple[int, ...]:
    # what follows "~" or "+" says how it was packaged, not which release it is
    release = re.split(r"[~+]", upstream, maxsplit=1)[0]
    return (*(int(number) for number in re.findall(r"[0-9]+", release)), 0, 0)
