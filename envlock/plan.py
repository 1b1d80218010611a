"""From a lock and the state of a project to what will be built. Pure: asks nothing of the world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from envlock.errors import InputError
from envlock.formats.requirements_txt import requirements_txt
from envlock.model.lock import Lock
from envlock.model.plan import (
    FINGERPRINT_LABEL,
    PROJECT_LABEL,
    RESERVED_LABEL_PREFIX,
    RESERVED_LABELS,
    VENV,
    ImageConfig,
    Layer,
    MetadataLayer,
    Plan,
    Project,
    ProjectLayer,
    PythonLayer,
    SystemLayer,
)
from envlock.model.spec import Seeds

# What engines give a container whose image says nothing.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OCI = "org.opencontainers.image."


def make_plan(lock: Lock, project: Project, *, fingerprint: str, lock_text: str) -> Plan:
    """Return what will be built: layers bottom first, what changes most on top, and the image configuration.

    ``lock_text`` goes into the image as it is. Raises ``InputError`` where the spec asks for what is envlock's own.
    """
    return Plan(
        lock=lock,
        fingerprint=fingerprint,
        base=lock.base,
        layers=_layers(lock, project, lock_text),
        config=ImageConfig(
            env=_environment(lock),
            user=lock.image.user,
            uid=lock.image.uid,
            workdir=lock.image.workdir,
            entrypoint=lock.image.entrypoint,
            labels=_labels(lock, project, fingerprint),
        ),
        project=project,
    )


def _layers(lock: Lock, project: Project, lock_text: str) -> tuple[Layer, ...]:
    metadata = {"envlock.lock": lock_text.encode(), "requirements.txt": requirements_txt(lock).encode()}
    layers: list[Layer] = []
    if lock.debs:
        layers.append(SystemLayer(debs=lock.debs))
    layers += [PythonLayer(wheels=lock.wheels), MetadataLayer(files=metadata)]
    if project.files:
        layers.append(ProjectLayer(files=project.files))
    return tuple(layers)


def _environment(lock: Lock) -> dict[str, str]:
    path = lock.env.get("PATH") or lock.base.env.get("PATH") or _DEFAULT_PATH
    ours = {"PATH": f"{VENV}/bin:{path}", "VIRTUAL_ENV": VENV}
    asked = {name: value for name, value in lock.env.items() if name not in ours}
    return {**ours, **_seeds(lock.seeds), **asked}


def _seeds(seeds: Seeds) -> dict[str, str]:
    env: dict[str, str] = {}
    if seeds.seed is not None:
        env |= {"SEED": str(seeds.seed), "PYTHONHASHSEED": str(seeds.seed)}
    if seeds.data_seed is not None:
        env["DATA_SEED"] = str(seeds.data_seed)
    if env or seeds.cudnn_deterministic:
        env["CUDNN_DETERMINISTIC"] = "true" if seeds.cudnn_deterministic else "false"
    if seeds.cudnn_deterministic:
        # cuBLAS is deterministic only with a workspace of fixed size (cuBLAS manual, results reproducibility).
        env["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return env


def _labels(lock: Lock, project: Project, fingerprint: str) -> Mapping[str, str]:
    """Return the labels (OCI image spec, annotations).

    What git does not say is empty rather than left out: an image inherits its base's labels, and the base's commit and
    version are not this image's.
    """
    taken = sorted(
        name for name in lock.image.labels if name in RESERVED_LABELS or name.startswith(RESERVED_LABEL_PREFIX)
    )
    if taken:
        raise InputError(
            f"image.labels: {taken[0]!r} is a label that envlock sets itself", hint="choose another name for it"
        )
    known = {
        f"{_OCI}title": lock.name,
        f"{_OCI}created": datetime.fromtimestamp(project.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        f"{_OCI}revision": project.revision or "",
        f"{_OCI}version": project.version or "",
        f"{_OCI}source": project.source or "",
        f"{_OCI}base.name": lock.base.reference,
        f"{_OCI}base.digest": lock.base.manifest_digest or lock.base.image_id,
        FINGERPRINT_LABEL: fingerprint,
        PROJECT_LABEL: project_digest(project),
    }
    return known | dict(sorted(lock.image.labels.items()))


def project_digest(project: Project) -> str:
    """Return the sha256 (hex) of the project's files: one JSON line of path, mode bit and content for each."""
    lines = (json.dumps([file.path, file.executable, file.sha256]) + "\n" for file in project.files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
