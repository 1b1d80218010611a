"""What locks, images and runs say of an environment, in the one form that can be shown and compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from packaging.utils import canonicalize_name

from envlock.formats.listings import Listing
from envlock.formats.lock_json import fingerprint
from envlock.model.environment import Environment, Scope
from envlock.model.live import LiveEnvironment
from envlock.model.lock import Lock
from envlock.model.spec import Seeds

REVISION = "org.opencontainers.image.revision"

_SEEDS = {"SEED": "seed", "DATA_SEED": "data_seed", "CUDNN_DETERMINISTIC": "cudnn_deterministic"}
# What envlock derives from the seeds; of its own interest only where the value is another.
_CUBLAS = ":4096:8"
_SEED_PARAMS = ("seed", "data_seed", "cudnn_deterministic")
_VERSION_PARAM = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)_version")
_NOT_PACKAGES = frozenset({"python", "cuda", "driver", "cudnn", "dataset", "data", "model", "envlock", "os", "format"})
_PYTHON = re.compile(r"[0-9]+\.[0-9]+[^\s]*")
_CUDA_PARAMS = {
    "cuda_version": "version",
    "driver_version": "driver",
    "cuda_driver_version": "driver",
    "cudnn_version": "cudnn",
    "gpu": "gpu",
    "gpu_type": "gpu",
    "gpu_name": "gpu",
}
_CUDA_LOCAL = re.compile(r"\+cu(?P<major>[0-9]{1,2})(?P<minor>[0-9])$")
_IMAGE_TAGS = {
    "envlock.image": "reference",
    "envlock.image_id": "image_id",
    "envlock.manifest_digest": "manifest_digest",
}


def environment_of_lock(lock: Lock, *, title: str) -> Environment:
    """Return what a lock pins. Its system packages, variables and labels are those that it adds to its base."""
    base = lock.base
    return Environment(
        title=title,
        kind="lock",
        fingerprint=fingerprint(lock),
        platform=lock.platform,
        base={"reference": base.reference, "digest": base.manifest_digest or base.image_id},
        os=base.os.pretty_name,
        python=base.python.version,
        cuda={"version": lock.cuda.version, "min_driver": lock.cuda.min_driver} if lock.cuda else {},
        apt={deb.name: deb.version for deb in lock.debs},
        pip={wheel.name: wheel.version for wheel in lock.wheels},
        hashes={wheel.name: wheel.sha256 for wheel in lock.wheels},
        env=dict(lock.env),
        seeds=seeds_of_lock(lock.seeds),
        labels=dict(lock.image.labels),
        scope={"apt": "added", "env": "added", "labels": "added", "cuda": "added"},
    )


def seeds_of_lock(seeds: Seeds) -> dict[str, str]:
    """Return the seeds that are set, as text."""
    values = {"seed": seeds.seed, "data_seed": seeds.data_seed}
    texts = {name: str(value) for name, value in values.items() if value is not None}
    return {**texts, "cudnn_deterministic": "true"} if seeds.cudnn_deterministic else texts


def split_env(env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return an image's or a process's variables without the seeds, and the seeds."""
    seeds = {_SEEDS[name]: value for name, value in env.items() if name in _SEEDS}
    if seeds.get("cudnn_deterministic", "").lower() in {"false", "0", ""}:
        seeds.pop("cudnn_deterministic", None)
    derived = {"PYTHONHASHSEED": seeds.get("seed")}
    if "cudnn_deterministic" in seeds:
        derived["CUBLAS_WORKSPACE_CONFIG"] = _CUBLAS
    own = {name for name, value in derived.items() if value is not None and env.get(name) == value}
    return {name: value for name, value in env.items() if name not in _SEEDS and name not in own}, seeds


def environment_of_live(live: LiveEnvironment, *, title: str) -> Environment:
    """Return what runs on this machine. Of its variables, only those that can move a result are known."""
    env, seeds = split_env(live.env)
    installed = live.installed
    # a version that does not say what is installed must not look like one
    direct = {name: f"{installed.packages.get(name, '?')} ({why})" for name, why in live.direct.items()}
    cuda = {"driver": live.driver, "gpu": ", ".join(live.gpus), "version": _cuda_of(installed.packages)}
    return Environment(
        title=title,
        kind="live",
        platform=live.platform,
        os=live.os,
        python=installed.python_version,
        cuda={name: value for name, value in cuda.items() if value} or None,
        apt=live.apt,
        pip={**installed.packages, **direct},
        env=env,
        seeds=seeds,
        scope={"cuda": "some", "env": "some"},
    )


def _cuda_of(packages: Mapping[str, str]) -> str | None:
    found = _CUDA_LOCAL.search(packages.get("torch", ""))
    return f"{found['major']}.{found['minor']}" if found else None


def with_run(environment: Environment, *, params: Mapping[str, str], tags: Mapping[str, str]) -> Environment:
    """Return a run's environment, as its lock has it, with what the run itself says of image, code and GPU."""
    cuda = {name: params[param] for param, name in _CUDA_PARAMS.items() if param in params and name != "version"}
    return replace(
        environment,
        kind="run",
        cuda={**(environment.cuda or {}), **cuda},
        image={name: tags[tag] for tag, name in _IMAGE_TAGS.items() if tag in tags},
        labels={**(environment.labels or {}), **_revision(tags)},
    )


def environment_of_notes(
    *, title: str, params: Mapping[str, str], tags: Mapping[str, str], listing: Listing | None
) -> Environment:
    """Return what can be known of a run that envlock did not record: the checklist's params, and a list of packages."""
    noted = _packages(params)
    pip = {**noted, **listing.packages} if listing is not None else noted
    scope: dict[str, Scope] = {"cuda": "some", "seeds": "some", "labels": "some"}
    if listing is None or not listing.complete:
        scope["pip"] = "some"
    cuda = {name: params[param] for param, name in _CUDA_PARAMS.items() if _said(params.get(param))}
    seeds = {name: params[name] for name in _SEED_PARAMS if _said(params.get(name))}
    base = tags.get("envlock.base")
    return Environment(
        title=title,
        kind="run",
        fingerprint=tags.get("envlock.fingerprint"),
        base=None if base is None else dict(zip(("reference", "digest"), base.split("@", 1), strict=False)),
        python=_python(params, listing),
        cuda=cuda or None,
        pip=pip or None,
        seeds=seeds or None,
        labels=_revision(tags) or None,
        image={name: tags[tag] for tag, name in _IMAGE_TAGS.items() if tag in tags},
        scope=scope,
    )


def _packages(params: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for param, value in params.items():
        name = _VERSION_PARAM.fullmatch(param)
        if name and name["name"].lower() not in _NOT_PACKAGES and param not in _CUDA_PARAMS and _said(value):
            found[canonicalize_name(name["name"])] = value
    return found


def _python(params: Mapping[str, str], listing: Listing | None) -> str | None:
    found = _PYTHON.match(params.get("python_version", ""))  # often the whole sys.version
    return found[0] if found else (listing.python if listing is not None else None)


def _revision(tags: Mapping[str, str]) -> dict[str, str]:
    commit = tags.get("envlock.git_commit") or tags.get("mlflow.source.git.commit")
    return {REVISION: commit} if commit else {}


def _said(value: str | None) -> bool:
    return value not in {None, "", "None"}  # what a logged None becomes
