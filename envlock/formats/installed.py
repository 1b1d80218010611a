"""What is installed in an image, held against its lock."""

from __future__ import annotations

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envlock.formats.listings import parse_freeze
from envlock.formats.probe import Probed
from envlock.model.image import Installed
from envlock.model.lock import Lock


def as_installed(probed: Probed, freeze: str | None) -> Installed:
    """Return what a Python says of itself; ``freeze`` is what its pip lists, None where there is no pip."""
    reported = {"python": probed.full}
    if probed.torch:
        reported["torch"] = probed.torch
    if freeze is None:
        packages = dict(probed.packages)
        freeze = "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))
    else:
        packages = dict(parse_freeze(freeze).packages)
    return Installed(python_version=probed.python, packages=packages, freeze=freeze, reported=reported)


def as_locked(lock: Lock) -> Installed:
    """Return what the image of a lock has installed, where nobody asked its own Python."""
    packages = {str(canonicalize_name(wheel.name)): wheel.version for wheel in lock.wheels}
    freeze = "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))
    return Installed(python_version=lock.base.python.version, packages=packages, freeze=freeze)


def differences(installed: Installed, lock: Lock) -> tuple[str, ...]:
    """Return what is not as the lock says, one line each: Python's version, packages missing, extra, or other."""
    found = []
    if installed.python_version != lock.base.python.version:
        found.append(f"Python: {lock.base.python.version} in the lock, {installed.python_version} in the image")
    locked: dict[str, str] = {canonicalize_name(wheel.name): wheel.version for wheel in lock.wheels}
    for name in sorted(locked.keys() | installed.packages.keys()):
        before, after = locked.get(name), installed.packages.get(name)
        if after is None:
            found.append(f"{name}: {before} in the lock, missing in the image")
        elif before is None:
            found.append(f"{name}: not in the lock, {after} in the image")
        elif not _same_version(before, after):
            found.append(f"{name}: {before} in the lock, {after} in the image")
    return tuple(found)


def _same_version(one: str, other: str) -> bool:
    """Compare as PEP 440 does: 1.0 is 1.0.0, but 1.0+cpu is another version."""
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
