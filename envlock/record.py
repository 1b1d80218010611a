"""``record``: what MLflow keeps of an image, and its way there without a loss.

A record is put in the outbox before anybody talks to MLflow, and forgotten after MLflow has all of it. Whatever happens
in between (no network, a crash, Ctrl-C, two processes at once), the record is delivered by the next one who tries,
into the same run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from envlock import __version__
from envlock.errors import EnvlockError, TrackingError, WorldError
from envlock.model.image import Image
from envlock.model.lock import Deb, Lock
from envlock.model.plan import Plan
from envlock.model.record import Destination, Record
from envlock.ports import Outbox, RunStore

TAG_LIMIT = 8000  # characters, MLflow's own (mlflow.utils.validation)
PARAM_LIMIT = 6000
FOLDER = "envlock"  # where a run keeps our artifacts

_HINT = "when MLflow answers again, deliver it with 'envlock record --pending' (the next record delivers it, too)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What became of one waiting record."""

    key: str
    run_id: str | None = None
    error: EnvlockError | None = None


def make_record(
    *,
    image: Image,
    plan: Plan,
    lock_bytes: bytes,
    spec_bytes: bytes | None,
    dockerfile: str,
    requirements: str,
) -> Record:
    """Return the tags, params and artifacts of an image. The same image always gives the same record."""
    artifacts = {
        "envlock.lock": lock_bytes,
        "requirements.txt": requirements.encode(),
        "pip-freeze.txt": image.installed.freeze.encode(),
        "apt.txt": _apt(plan.lock.debs).encode(),
        "Dockerfile": dockerfile.encode(),
        "image.json": _image(image, plan).encode(),
    }
    if spec_bytes is not None:
        artifacts["envlock.yaml"] = spec_bytes
    return Record(
        tags={name: shorten(value, TAG_LIMIT) for name, value in _tags(image, plan)},
        params={name: shorten(value, PARAM_LIMIT) for name, value in _params(image, plan.lock)},
        artifacts={f"{FOLDER}/{name}": content for name, content in artifacts.items()},
    )


def deliver(record: Record, destination: Destination, *, runs: RunStore, outbox: Outbox) -> str:
    """Put a record into its run and return the run's ID.

    Raises ``TrackingError`` where MLflow cannot be reached or refuses: then the record waits in the outbox, and the
    message says where. Raises ``InputError`` for an unknown run or experiment: such a record does not wait.
    """
    key = outbox.put(record, destination)
    try:
        # Where another process was quicker to deliver it, delivering again only finds out the run's ID.
        with outbox.claim(key, wait=True):
            run_id = runs.deliver(record, destination, key=key)
            outbox.done(key)
    except WorldError as error:
        raise TrackingError(
            f"{error.message}; the record waits in {outbox.place(key)}",
            hint="\n".join(filter(None, (error.hint, _HINT))),
            details=error.details,
        ) from error
    except EnvlockError:
        outbox.done(key)
        raise
    return run_id


def deliver_pending(*, runs: RunStore, outbox: Outbox) -> Sequence[Delivery]:
    """Deliver what waits, oldest first, each once and only once, and say what became of each.

    A store that does not answer is asked once, not once for every record that waits for it. What another process is
    delivering at this moment is left to it.
    """
    deliveries: list[Delivery] = []
    silent: dict[str | None, TrackingError] = {}
    for key, record, destination in outbox.pending():
        if destination.tracking_uri in silent:
            deliveries.append(Delivery(key=key, error=silent[destination.tracking_uri]))
            continue
        with outbox.claim(key, wait=False) as mine:
            if not mine:
                continue
            try:
                run_id = runs.deliver(record, destination, key=key)
            except TrackingError as error:
                silent[destination.tracking_uri] = error
                deliveries.append(Delivery(key=key, error=error))
            except EnvlockError as error:
                deliveries.append(Delivery(key=key, error=error))
            else:
                outbox.done(key)
                deliveries.append(Delivery(key=key, run_id=run_id))
    return deliveries


def shorten(value: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters; one that is cut says so, with its length and its SHA-256."""
    if len(value) <= limit:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()
    note = f"… [cut by envlock: {len(value)} characters, sha256 {digest}]"
    return value[: limit - len(note)] + note


def _tags(image: Image, plan: Plan) -> Iterator[tuple[str, str]]:
    base, project = plan.lock.base, plan.project
    yield "envlock.fingerprint", plan.fingerprint
    yield "envlock.image", image.reference
    yield "envlock.image_id", image.image_id
    if image.manifest_digest is not None:
        yield "envlock.manifest_digest", image.manifest_digest
    tag = base.reference.partition("@")[0]
    yield "envlock.base", f"{tag}@{base.manifest_digest or base.image_id}"
    yield "envlock.version", __version__
    if project.revision is not None:
        yield "envlock.git_commit", project.revision
        yield "envlock.git_dirty", str(project.dirty).lower()
    yield "mlflow.docker.image.uri", image.pushed or image.reference
    yield "mlflow.docker.image.id", image.image_id


def _params(image: Image, lock: Lock) -> Iterator[tuple[str, str]]:
    """Yield what the checklist's ``log_environment`` logs, in the words that it uses inside the image.

    A param cannot change once it is logged: with other words than the training script's own, that script would fail.
    """
    installed = image.installed
    yield "python_version", installed.reported.get("python", installed.python_version)
    if lock.cuda is not None:
        yield "cuda_version", lock.cuda.version
    for listed in lock.mlflow.params:
        name = canonicalize_name(listed)
        if name in installed.packages:
            yield f"{listed}_version", installed.reported.get(name, installed.packages[name])


def _apt(debs: Sequence[Deb]) -> str:
    """Return the added system packages as ``apt-get install`` takes them."""
    lines = sorted(f"{deb.name}:{deb.architecture}={deb.version}" for deb in debs)
    return "".join(f"{line}\n" for line in lines)


def _image(image: Image, plan: Plan) -> str:
    """Return what names the image; nothing of how or when it was built, which differs from machine to machine."""
    base = plan.lock.base
    document: Mapping[str, object] = {
        "reference": image.reference,
        "image_id": image.image_id,
        "manifest_digest": image.manifest_digest,
        "pushed": image.pushed,
        "fingerprint": plan.fingerprint,
        "platform": plan.lock.platform,
        "base": {"reference": base.reference, "manifest_digest": base.manifest_digest, "image_id": base.image_id},
        "python_version": image.installed.python_version,
        "labels": dict(plan.config.labels),
    }
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
