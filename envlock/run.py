"""``envlock run``: what a command in an image's container is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from envlock.errors import UnknownImage, UsageError
from envlock.formats.hosts import is_loopback
from envlock.formats.reference import parse_reference
from envlock.formats.urls import without_credentials
from envlock.ports import Engine

# MLflow's own settings that a training script needs to reach the store as we do (MLflow documentation, "Tracking
# Server", authentication). Settings that name files of this machine mean nothing inside.
CREDENTIALS = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What the command's container is given beside the image."""

    env: Mapping[str, str]
    volumes: Mapping[str, str]
    network: str | None
    messages: tuple[str, ...] = ()  # what the user should know about it


def image_of(repository: str, fingerprint: str, *, engine: Engine) -> str:
    """Return the image of a lock; raises ``UnknownImage`` where the engine does not have it."""
    reference = f"{repository}:env-{fingerprint[:12]}"
    if engine.find(reference) is None:
        raise UnknownImage(f"the engine has no image of this lock ({reference})", hint="make it with 'envlock build'")
    return reference


def image_named(reference: str, *, engine: Engine) -> str:
    """Return an image that the user named; raises ``UnknownImage`` where the engine does not have it."""
    if not reference.startswith("sha256:"):
        reference = str(parse_reference(reference))
    if engine.find(reference) is None:
        raise UnknownImage(f"the engine has no image {reference}", hint="pull it, or make it with 'envlock build'")
    return reference


def given(
    *,
    tracking_uri: str | None,
    run_id: str | None,
    experiment: str | None,
    network: str | None,
    env: Sequence[str],
    volumes: Sequence[str],
    environ: Mapping[str, str],
    cwd: Path,
    engine_is_here: bool = True,
) -> Given:
    """Work out environment, volumes and network; ``env`` holds K=V or K (then its value is ours), ``volumes`` H:C.

    Raises ``UsageError`` for what cannot be.
    """
    variables = {name: environ[name] for name in CREDENTIALS if environ.get(name)}
    messages = []
    if tracking_uri and _is_remote(tracking_uri):
        variables["MLFLOW_TRACKING_URI"] = tracking_uri
        if network is None and is_loopback(urlsplit(tracking_uri).hostname or ""):
            if not engine_is_here:
                raise UsageError(
                    f"MLflow is at {without_credentials(tracking_uri)}, on this machine, and the engine is on another",
                    hint="set MLFLOW_TRACKING_URI to an address that the engine's machine can reach",
                )
            network = "host"
            messages.append(
                f"MLflow is at {without_credentials(tracking_uri)}, on this machine's loopback: using host networking"
            )
    elif tracking_uri:
        messages.append(
            f"MLflow's store is {without_credentials(tracking_uri)}, a file that the container does not see: "
            "not passed on (run 'mlflow server' and set MLFLOW_TRACKING_URI)"
        )
    if run_id:
        variables["MLFLOW_RUN_ID"] = run_id
    if experiment:
        variables["MLFLOW_EXPERIMENT_NAME"] = experiment
    variables |= _variables(env, environ)
    return Given(env=variables, volumes=_volumes(volumes, cwd), network=network, messages=tuple(messages))


def _is_remote(uri: str) -> bool:
    """Return whether a tracking URI means the same in a container: a server, or a service known by name."""
    return urlsplit(uri).scheme in ("http", "https", "databricks", "databricks-uc", "uc") or ":" not in uri


def _variables(entries: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    variables = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name or not name.isprintable() or name != name.strip() or "\0" in value:
            raise UsageError("--env takes NAME=VALUE, or NAME to pass this environment's value on")
        if not equals:
            if name not in environ:
                raise UsageError(f"--env {name}: it is not set here", hint=f"set it, or give its value: --env {name}=…")
            value = environ[name]
        variables[name] = value
    return variables


def _volumes(entries: Sequence[str], cwd: Path) -> dict[str, str]:
    volumes = {}
    for entry in entries:
        source, colon, target = entry.partition(":")
        inside, _, mode = target.partition(":")
        if not (colon and source and PurePosixPath(inside).is_absolute() and mode in ("", "ro", "rw")):
            raise UsageError(
                f"--volume {entry}: it is not HOST:CONTAINER",
                hint="as in --volume ./data:/data or --volume /data:/data:ro",
            )
        if source.startswith(".") or ("/" in source and not source.startswith("/")):
            source = str((cwd / source).resolve())
        if source in volumes:
            raise UsageError(f"--volume {entry}: {source} is there twice")
        volumes[source] = target
    return volumes
