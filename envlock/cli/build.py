"""``envlock build``: lock if need be, build, check, tag, push and record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from envlock.adapters.guard import FileGuard
from envlock.adapters.image_readings import ImageReadings
from envlock.build import Workshop
from envlock.build import build as make_image
from envlock.cli.files import LOCK, SPEC
from envlock.cli.lock import LockOption, SpecOption
from envlock.cli.planning import Planned, planned
from envlock.cli.tracking import destination_of, send
from envlock.cli.world import World
from envlock.dockerfile import dockerfile
from envlock.errors import EnvlockError, UsageError
from envlock.formats.requirements_txt import requirements_txt
from envlock.model.image import Image
from envlock.model.record import Record
from envlock.record import make_record


def build(
    *,
    spec: SpecOption = Path(SPEC),
    lock_file: LockOption = Path(LOCK),
    push: Annotated[bool, typer.Option("--push", help="Push every name of the image.")] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", "-t", metavar="TAG", help="A further tag, or a whole image reference. Repeatable."),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option("--run-id", metavar="ID", help="Record with this run. Default: MLFLOW_RUN_ID, or a new run"),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", metavar="NAME", help="Record with a new run in this experiment.")
    ] = None,
    no_record: Annotated[bool, typer.Option("--no-record", help="Do not record anything.")] = False,
    plain: Annotated[  # noqa: ARG001 # what it asks for is so far the only way
        bool, typer.Option("--plain", help="Build with the engine's own builder (so far the only way).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Build the image of the lock, check what is in it, and record it with an MLflow run. Locks first without a lock.

    Where the image is there already, it only gets its names and is recorded. Where MLflow does not answer, the image
    stays, the record waits, and the exit code is 3.

    Example:  envlock build --push --tag latest --experiment speech
    """
    if no_record and (run_id or experiment):
        raise UsageError("--no-record goes without --run-id and --experiment")
    world = World.here()
    it = planned(spec, lock_file, world=world, lock_if_missing=True)
    destination = None if no_record else destination_of(it.plan.lock, run_id=run_id, experiment=experiment, world=world)
    image = make_image(
        it.plan,
        workshop=_workshop(world),
        wanted=world.wanted(it.plan.lock, it.folder),
        project=it.folder,
        tags=tag or (),
        push=push,
    )
    recorded, failure = None, None
    if destination is not None:
        try:
            recorded = send(_record(image, it), destination, world=world)
        except EnvlockError as error:
            failure = error  # after the result: the image is there
    _report(image, recorded, as_json=as_json)
    if failure is not None:
        raise failure


def _workshop(world: World) -> Workshop:
    return Workshop(
        engine=world.engine,
        artifacts=world.artifacts,
        readings=ImageReadings(world.cache / "images"),
        guard=FileGuard(world.state / "locks", waiting=world.progress.message),
        progress=world.progress,
    )


def _record(image: Image, it: Planned) -> Record:
    return make_record(
        image=image,
        plan=it.plan,
        lock_bytes=it.lock_bytes,
        spec_bytes=it.spec_bytes,
        dockerfile=dockerfile(it.plan),
        requirements=requirements_txt(it.plan.lock),
    )


def _report(image: Image, run_id: str | None, *, as_json: bool) -> None:
    if as_json:
        answer = {
            "image": image.reference,
            "image_id": image.image_id,
            "manifest_digest": image.manifest_digest,
            "fingerprint": image.fingerprint,
            "run_id": run_id,
            "tags": list(image.tags),
            "reused": image.reused,
            "seconds": dict(image.seconds),
        }
        print(json.dumps(answer))
        return
    print(f"{image.reference}: {'nothing to do, it is there' if image.reused else 'built and checked'}")
    print(f"  image ID  {image.image_id}")
    for name in image.tags[1:]:
        print(f"  also      {name}")
    if image.manifest_digest:
        print(f"  pushed    {image.reference.rpartition(':')[0]}@{image.manifest_digest}")
    if run_id:
        print(f"  run       {run_id}")
    if image.seconds:
        print("  seconds   " + ", ".join(f"{step} {took:.1f}" for step, took in image.seconds.items()))
