"""Spec to lock: everything that is pinned, resolved for the base image and never for this machine."""

from envlock.lock.build_sdist import rebuild_wheel
from envlock.lock.python import python_sources
from envlock.lock.whole import Sources, Upgrade, lock

__all__ = ["Sources", "Upgrade", "lock", "python_sources", "rebuild_wheel"]
