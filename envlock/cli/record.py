"""``envlock record``: put what MLflow should know of an image into a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from envlock.cli.embedded import plan_of_image
from envlock.cli.files import LOCK, SPEC, read_lock, read_requested
from envlock.cli.tracking import destination_of, send, send_pending
from envlock.cli.world import World
from envlock.dockerfile import dockerfile
from envlock.errors import EnvlockError, InputError, TrackingError, UsageError
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.formats.reference import parse_reference
from envlock.formats.requirements_txt import requirements_txt
from envlock.inputs import changes
from envlock.inside import read_installed
from envlock.model.image import Image
from envlock.model.lock import Lock
from envlock.model.plan import Plan
from envlock.model.record import Record
from envlock.ports import EngineImage
from envlock.record import Delivery, make_record
from envlock.show import embedded_lock, find_image


def record(
    image: Annotated[
        str | None, typer.Argument(metavar="IMAGE", help="An image that envlock built. Default: the lock's own.")
    ] = None,
    *,
    lock_file: Annotated[Path, typer.Option("--lock", "-l", help="The lock whose image is meant.")] = Path(LOCK),
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="Add to this run. Default: MLFLOW_RUN_ID, or a new run")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", metavar="NAME", help="Make a new run in this experiment.")
    ] = None,
    pending: Annotated[
        bool, typer.Option("--pending", help="Only deliver the records that wait because MLflow did not answer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Record an image with an MLflow run: digests, versions, pip freeze, the lock. Twice changes nothing.

    Example:  envlock record --run-id 0f6e4f0d5f7c4f6f8d0a1b2c3d4e5f60
    """
    world = World.here()
    if pending:
        if image or run_id or experiment:
            raise UsageError("--pending goes without an image, --run-id and --experiment")
        _report_pending(send_pending(world=world), world, as_json=as_json)
        return
    subject = read_subject(image, lock_file, world=world)
    destination = destination_of(subject.lock, run_id=run_id, experiment=experiment, world=world)
    recorded = send(record_of(subject, spec=lock_file.parent / SPEC), destination, world=world)
    if as_json:
        print(json.dumps({"run_id": recorded, **_names(subject.image)}))
    else:
        print(f"recorded {subject.image.reference} with run {recorded}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a record is about."""

    image: Image
    lock: Lock
    plan: Plan


def record_of(subject: Subject, *, spec: Path) -> Record:
    """Return the record of an image; the spec goes into it where it is the one that the image's lock answers."""
    return make_record(
        image=subject.image,
        plan=subject.plan,
        lock_bytes=dump_lock(subject.lock).encode(),
        spec_bytes=_spec(spec, subject.lock),
        dockerfile=dockerfile(subject.plan),
        requirements=requirements_txt(subject.lock),
    )


def read_subject(reference: str | None, lock_file: Path, *, world: World) -> Subject:
    """Read an image that envlock built, by name or else by its lock, from the engine alone.

    Raises ``InputError`` where there is no such image, or envlock did not build it.
    """
    expected = None if reference else read_lock(lock_file)[0]
    if reference is None and expected is not None:
        reference = f"{expected.image.repository}:env-{fingerprint(expected)[:12]}"
        if world.engine.find(reference) is None:
            raise InputError(f"the engine has no {reference}, the image of {lock_file}", hint="run 'envlock build'")
    found = find_image(str(reference), engine=world.engine)
    with world.progress.task("Reading the image"), world.engine.container(found.id) as container:
        lock = embedded_lock(found, container)
        if lock is None:
            raise InputError(
                f"the image {reference} was not built by envlock, or not from the lock that it carries",
                hint="record an image that 'envlock build' made",
            )
        installed = read_installed(container)
    plan = plan_of_image(found, lock, world)
    own = f"{lock.image.repository}:{plan.tag}"
    digest = _manifest_digest(found, lock.image.repository, world)
    return Subject(
        image=Image(
            reference=own if own in found.tags else str(reference),
            tags=found.tags,
            image_id=found.id,
            fingerprint=plan.fingerprint,
            manifest_digest=digest,
            pushed=own if digest else None,
            installed=installed,
        ),
        lock=lock,
        plan=plan,
    )


def _manifest_digest(image: EngineImage, repository: str, world: World) -> str | None:
    """Return the digest that a registry knows the image by, once it was pushed there."""
    known = world.pushes.find(image.id, repository)
    if known is not None:
        return known
    ours = parse_reference(repository).repository
    digests = (parse_reference(digest) for digest in image.digests)
    return next((found.digest for found in digests if found.repository == ours), None)


def _spec(path: Path, lock: Lock) -> bytes | None:
    """Return the spec beside the lock, if it is the one that the lock answers."""
    try:
        return path.read_bytes() if not changes(read_requested(path), lock) else None
    except (EnvlockError, OSError):
        return None


def _names(image: Image) -> dict[str, Any]:
    return {
        "image": image.reference,
        "image_id": image.image_id,
        "manifest_digest": image.manifest_digest,
        "fingerprint": image.fingerprint,
    }


def _report_pending(deliveries: Sequence[Delivery], world: World, *, as_json: bool) -> None:
    waiting = [delivery for delivery in deliveries if delivery.error is not None]
    if as_json:
        delivered = [{"key": item.key, "run_id": item.run_id} for item in deliveries if item.error is None]
        left = [{"key": item.key, "file": world.outbox.place(item.key), "reason": str(item.error)} for item in waiting]
        print(json.dumps({"delivered": delivered, "waiting": left}))
    else:
        for item in deliveries:
            if item.error is None:
                print(f"delivered to run {item.run_id}")
        if not deliveries:
            print("nothing waits")
    if waiting:
        raise _still_waiting(waiting, world)


def _still_waiting(waiting: Sequence[Delivery], world: World) -> EnvlockError:
    details = [f"{world.outbox.place(item.key)}: {item.error}" for item in waiting]
    count = f"{len(waiting)} records wait" if len(waiting) > 1 else "1 record waits"
    if any(isinstance(item.error, TrackingError) for item in waiting):
        hint = next((item.error.hint for item in waiting if item.error is not None and item.error.hint), "")
        return TrackingError(f"{count} for MLflow", details=details, hint=hint)
    return InputError(
        f"{count} for what is not there",
        details=details,
        hint="restore the run, or remove the file to give the record up",
    )
