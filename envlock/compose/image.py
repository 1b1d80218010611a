"""From a plan and its layers to an image, as data: the same input gives the same bytes. Asks nothing of the world.

The configuration is what the plan's Dockerfile would give (``templates/dockerfile/config.j2``) on the base's own; its
times are the commit's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from envlock.errors import InputError
from envlock.formats import oci
from envlock.model.image import AUTHOR
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.plan import Plan

# What is taken over from a base (OCI image spec, config; Docker's Healthcheck and Shell); the rest is of the past.
_INHERITED = (
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "ExposedPorts",
    "Healthcheck",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "Volumes",
)
_PLATFORM = ("architecture", "os", "os.features", "os.version", "variant")


def compose(plan: Plan, layers: Sequence[StoredLayer], *, base_config: bytes) -> ComposedImage:
    """Return the image of a plan; ``layers`` are all layers above the base, bottom first.

    ``base_config`` is the base's own configuration (OCI image spec, config), byte for byte. Raises ``InputError``
    where it is not that of the plan's base, or asks for steps that only a builder can do.
    """
    base = _base(plan, base_config)
    labels = {**_strings(base, "Labels"), **plan.config.labels}
    diff_ids = [*plan.base.diff_ids, *(layer.diff_id for layer in layers)]
    created = _time(plan.project.epoch)
    config = {name: base[name] for name in _PLATFORM if base.get(name)} | {
        "author": AUTHOR,
        "created": created,
        "config": _run_config(plan, base, labels),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [
            *_history(base, len(plan.base.diff_ids)),
            *({"created": created, "created_by": f"envlock: {layer.title}"} for layer in layers),
        ],
    }
    content = oci.canonical(config)
    return ComposedImage(
        config=content,
        image_id=oci.digest_of(content),
        base_layers=tuple(oci.as_oci(layer) for layer in plan.base.layers),
        base_diff_ids=plan.base.diff_ids,
        layers=tuple(layers),
        labels=labels,
    )


def _base(plan: Plan, content: bytes) -> dict[str, Any]:
    where = f"the configuration of {plan.base.reference}"
    digest = oci.digest_of(content)
    if digest != plan.base.image_id:
        raise InputError(f"{where} is another than the lock's: expected {plan.base.image_id}, found {digest}")
    base = json.loads(content)
    if tuple((base.get("rootfs") or {}).get("diff_ids") or ()) != plan.base.diff_ids:
        raise InputError(f"{where} names other layers than the lock")
    if (base.get("config") or {}).get("OnBuild"):
        raise InputError(
            f"{plan.base.reference} has ONBUILD steps, which only a builder can do", hint="build it with --plain"
        )
    return dict(base)


def _run_config(plan: Plan, base: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    old = base.get("config") or {}
    config = {name: old[name] for name in _INHERITED if old.get(name)}
    if plan.config.entrypoint:
        config["Entrypoint"] = list(plan.config.entrypoint)
        config.pop("Cmd", None)  # it was meant for the other entrypoint, as builders have it, too
    return config | {
        "Env": _env(old.get("Env") or (), plan.config.env),
        "Labels": dict(labels),
        "User": f"{plan.config.uid}:{plan.config.uid}",
        "WorkingDir": plan.config.workdir,
    }


def _env(base: Sequence[str], ours: Mapping[str, str]) -> list[str]:
    """Return the base's variables in their order, ours in their places, then the rest of ours by name."""
    values = dict(line.partition("=")[::2] for line in base) | dict(sorted(ours.items()))
    return [f"{name}={value}" for name, value in values.items()]


def _strings(base: Mapping[str, Any], name: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in ((base.get("config") or {}).get(name) or {}).items()}


def _history(base: Mapping[str, Any], layers: int) -> list[dict[str, Any]]:
    """Return the base's history where it fits its layers, as tools check; else one that does."""
    history = [dict(entry) for entry in base.get("history") or ()]
    if sum(1 for entry in history if not entry.get("empty_layer")) == layers:
        return history
    return [{"created_by": "the base image"} for _ in range(layers)]


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
