"""What a lock answers to, and what of it changed: needs no network and no engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from envlock.formats.structure import to_plain
from envlock.model.lock import Inputs, Lock
from envlock.model.spec import Requested


def inputs_of(requested: Requested) -> Inputs:
    """Return the part of a request that resolution depends on, in a stable form."""
    spec = requested.spec
    return Inputs(
        base=spec.base,
        python=spec.python,
        platform=spec.platform,
        cuda=spec.cuda,
        as_of=spec.as_of,
        apt=tuple(sorted(str(package) for package in spec.apt.packages)),
        apt_repositories=tuple(
            " ".join((item.name, item.uri, item.suite, *item.components, _sha256(requested.keys.get(item.name, b""))))
            for item in spec.apt.repositories
        ),
        apt_snapshot=spec.apt.snapshot,
        indexes=tuple(" ".join((item.name, item.url, *sorted(item.packages))) for item in spec.pip.indexes),
        find_links=tuple(f"{item.name} {item.path}" for item in spec.pip.find_links),
        requirements=requested.requirements,
        constraints=requested.constraints,
        sdist=tuple(sorted(spec.pip.sdist)),
        resolver=spec.pip.resolver,
    )


def settle(requested: Requested, lock: Lock) -> Lock:
    """Return the lock with what the spec says without any resolution: names, environment, seeds, image, project."""
    spec = requested.spec
    return replace(
        lock,
        name=spec.name,
        env=dict(spec.env),
        seeds=spec.seeds,
        image=spec.image,
        project=spec.project,
        mlflow=spec.mlflow,
    )


def changes(requested: Requested, lock: Lock) -> tuple[str, ...]:
    """Return, in words, what the spec asks for that the lock does not answer; empty where the lock is current."""
    settled = settle(requested, lock)
    found = list(_changed_inputs(lock.inputs, inputs_of(requested)))
    for name in ("name", "env", "seeds", "image", "project", "mlflow"):
        found += _changed_values(name, to_plain(getattr(lock, name)), to_plain(getattr(settled, name)))
    return tuple(found)


def _changed_inputs(locked: Inputs, wanted: Inputs) -> Iterator[str]:
    for member in fields(Inputs):
        before, after = getattr(locked, member.name), getattr(wanted, member.name)
        label = member.name.replace("_", " ")
        if isinstance(before, tuple):
            yield from (f"{label}: {line!r} is new" for line in after if line not in before)
            yield from (f"{label}: {line!r} is gone" for line in before if line not in after)
            if before != after and sorted(before) == sorted(after):
                yield f"{label}: the order changed"
        elif before != after:
            yield f"{label}: {_shown(before)} is now {_shown(after)}"


def _changed_values(label: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            yield from _changed_values(f"{label}.{name}", before.get(name), after.get(name))
    elif before != after:
        yield f"{label}: {_shown(before)} is now {_shown(after)}"


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
