"""Content keys: what a layer is made from, as a sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from envlock.layers.target import Target
from envlock.model.lock import Wheel

FORMAT = 1  # of layers, parts and notes; another number whenever the same wheels would give other bytes


def wheel_key(kind: str, wheel: Wheel, target: Target) -> str:
    """Return the key of something that one wheel is made into ("part", "files", "tops")."""
    return _key(kind, target, _of(wheel))


def layer_key(wheels: Iterable[Wheel], target: Target, shadows: dict[str, frozenset[str]], *, alone: bool) -> str:
    """Return the key of a layer of wheels; ``shadows`` says which files are left out, by package."""
    parts = [[*_of(wheel), sorted(shadows.get(wheel.name, ()))] for wheel in wheels]
    return _key("alone" if alone else "shared", target, parts)


def shadows_key(wheels: Iterable[Wheel], target: Target) -> str:
    """Return the key of the note that says which files of a whole list are left out."""
    return _key("shadows", target, sorted(_of(wheel) for wheel in wheels))


def _of(wheel: Wheel) -> list[Any]:
    return [wheel.name, wheel.sha256, wheel.requested]


def _key(kind: str, target: Target, what: Any) -> str:
    """Hash a line of JSON. The interpreter's full version is in it because compiled files depend on it."""
    text = json.dumps(["envlock layer", FORMAT, kind, target.python, target.venv, what], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
