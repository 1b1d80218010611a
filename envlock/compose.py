"""From a plan and its layers to an image, as data: the same input gives the same bytes. Asks nothing of the world.

The configuration is what the plan's Dockerfile would give (``templates/dockerfile/config.j2``) on the base's own; its
times are the commit's. Three layers are so small that they are made here: the user, envlock's own files, the project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envlock.errors import InputError, LockError
from envlock.formats import oci
from envlock.formats.base_files import BaseFiles, accounts
from envlock.formats.context import ContextFile, chunks
from envlock.formats.small_tar import Entry, tar
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.plan import METADATA, MetadataLayer, Plan, ProjectLayer

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
_FORMAT = 1  # of the small layers, in their keys: a change of their bytes is a new number


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallLayer:
    """A layer that is made from the plan alone; ``blocks`` gives its tar, from the start at each call."""

    key: str  # hex, as ``StoredLayer.key``
    title: str
    blocks: Callable[[], Iterator[bytes]]


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


def user_layer(plan: Plan, files: BaseFiles) -> SmallLayer | None:
    """Return the layer with the user, the home and the working directory; None for root with a folder that is there.

    ``files`` says what is below it (base and system packages). Raises ``LockError`` where the user's name is taken.
    """
    entries = list(_user_entries(plan, files))
    if not entries:
        return None
    wanted = files.with_folders(entries)
    return _small(f"user {plan.config.user} and {plan.config.workdir}", wanted)


def small_layers(plan: Plan, *, project: Path, files: BaseFiles) -> list[SmallLayer]:
    """Return the layers with envlock's own files and with the project's, as far as the plan has them.

    Reading the project's files raises ``StorageError`` where they are not what they were.
    """
    made = []
    for layer in plan.layers:
        if isinstance(layer, MetadataLayer):
            entries = [
                Entry(path=f"{METADATA}/{name}".lstrip("/"), content=content, size=len(content))
                for name, content in layer.files.items()
            ]
            made.append(_small("the environment's own lock and requirements", files.with_folders(entries)))
        elif isinstance(layer, ProjectLayer):
            entries = _project_entries(plan, layer, project, files)
            made.append(_small(_project_title(plan, layer), files.with_folders(entries)))
    return made


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


def _user_entries(plan: Plan, files: BaseFiles) -> Iterator[Entry]:
    config = plan.config
    if config.uid:
        home = f"home/{config.user}"
        changed = accounts(files.passwd, files.group, user=config.user, uid=config.uid)
        if changed is not None:
            passwd, group = changed
            yield Entry(path="etc/passwd", content=passwd, size=len(passwd))
            yield Entry(path="etc/group", content=group, size=len(group))
            yield Entry(path=home, folder=True, uid=config.uid)
    workdir = config.workdir.strip("/")
    found = files.find(workdir)
    if workdir and (config.uid or found is None):
        yield Entry(path=workdir, folder=True, uid=config.uid, mode=found.mode if found else None)


def _project_entries(plan: Plan, layer: ProjectLayer, project: Path, files: BaseFiles) -> list[Entry]:
    top, uid = plan.config.workdir.strip("/"), plan.config.uid
    folders = {parent for file in layer.files for parent in _parents(file.path)}
    found = files.find(top) if top else None
    # The user layer has made it the user's; root leaves what is there as it is.
    mine = [Entry(path=top, folder=True, uid=uid, mode=found.mode if found else None)] if top else []
    return [
        *mine,
        *(Entry(path=f"{top}/{folder}".lstrip("/"), folder=True, uid=uid) for folder in sorted(folders)),
        *(
            Entry(
                path=f"{top}/{file.path}".lstrip("/"),
                content=_reader(project / file.path, file.path, file.size, file.sha256),
                size=file.size,
                mode=0o755 if file.executable else 0o644,
                uid=uid,
                sha256=file.sha256,
            )
            for file in layer.files
        ),
    ]


def _reader(place: Path, path: str, size: int, sha256: str) -> Callable[[], Iterator[bytes]]:
    return lambda: chunks(ContextFile(path=path, content=place, size=size, sha256=sha256))


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _project_title(plan: Plan, layer: ProjectLayer) -> str:
    count = f"{len(layer.files)} files" if len(layer.files) != 1 else "1 file"
    return f"{count} of the project in {plan.config.workdir}"


def _small(title: str, entries: Sequence[Entry]) -> SmallLayer:
    """Key a layer by all that its tar is made from; a large file counts by its hash."""
    lines = [entry.identity() for entry in entries]
    if len({entry.path for entry in entries}) != len(entries):
        raise LockError(f"two files of one layer have the same path: {title}")
    key = hashlib.sha256(oci.canonical([_FORMAT, title, lines])).hexdigest()
    return SmallLayer(key=key, title=title, blocks=lambda: tar(entries))
