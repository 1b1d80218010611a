"""``envlock build``: lock if need be, build, check, tag, push and record."""

from __future__ import annotations

import json
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from envlock.build import Wishes, Workshop
from envlock.build import build as make_image
from envlock.cli.files import LOCK, SPEC, LockOption, SpecOption
from envlock.cli.planning import Planned, planned
from envlock.cli.workshop import Sharing, opened_workshop
from envlock.cli.world import World
from envlock.errors import EngineError, EnvlockError, UsageError
from envlock.formats.requirements_txt import requirements_txt
from envlock.model.image import Image
from envlock.model.lock import Lock
from envlock.ports import Wanted

if TYPE_CHECKING:
    from envlock.model.record import Destination


_CACHE_FROM = "A repository to take layers from that another machine has made. Who may write there is trusted."
_CACHE_TO = "A repository to share the layers with."


class EngineChoice(StrEnum):
    """Whether a container engine takes part."""

    AUTO = "auto"
    DOCKER = "docker"
    NONE = "none"


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
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="Also write an OCI layout: a folder, or one file NAME.tar."
        ),
    ] = None,
    engine: Annotated[
        EngineChoice, typer.Option("--engine", help="none: compose without one. auto: without one where none answers.")
    ] = EngineChoice.AUTO,
    cache_from: Annotated[
        str, typer.Option("--cache-from", metavar="REPO", envvar="ENVLOCK_CACHE_FROM", help=_CACHE_FROM)
    ] = "",
    cache_to: Annotated[
        str, typer.Option("--cache-to", metavar="REPO", envvar="ENVLOCK_CACHE_TO", help=_CACHE_TO)
    ] = "",
    plain: Annotated[
        bool, typer.Option("--plain", help="Build the Dockerfile with the engine's own builder instead.")
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
    wishes = Wishes(tags=tuple(tag or ()), push=push, layout=output, plain=plain, inspect=not no_record)
    world = World.here()
    it = planned(spec, lock_file, world=world, lock_if_missing=True)
    destination = None if no_record else _destination(it.plan.lock, run_id, experiment, world)
    sharing = Sharing(read=cache_from, write=cache_to)
    with opened_workshop(with_engine=_with_engine(engine, wishes, world), sharing=sharing, world=world) as workshop:
        image = make_image(
            it.plan,
            workshop=workshop,
            wanted=partial(_wanted, it, workshop, world),
            project=it.folder,
            wishes=wishes,
        )
    recorded, failure = None, None
    if destination is not None:
        try:
            recorded = _record(image, it, destination, world)
        except EnvlockError as error:
            failure = error  # after the result: the image is there
    _report(image, recorded, output=output, as_json=as_json)
    if failure is not None:
        raise failure


def _with_engine(choice: EngineChoice, wishes: Wishes, world: World) -> bool:
    if choice is EngineChoice.NONE:
        return False
    try:
        world.engine.connect()
    except EngineError as error:
        if choice is EngineChoice.DOCKER or wishes.plain:
            raise
        if not (wishes.push or wishes.layout):
            hint = f"{error.hint}; or have the image without an engine: --output PATH, or --push"
            raise EngineError(error.message, hint=hint, details=error.details) from None
        world.progress.message(f"No container engine: {error.message}. Composing the image without one")
        return False
    return True


# What fetches is imported where something is lacking, and what records where something is recorded: that takes longer
# than a build with nothing to do.


def _wanted(it: Planned, workshop: Workshop, world: World) -> list[Wanted]:
    from envlock.cli.packages import wanted

    return wanted(it.plan.lock, it.folder, with_engine=workshop.engine is not None, world=world)


def _destination(lock: Lock, run_id: str | None, experiment: str | None, world: World) -> Destination:
    from envlock.cli.tracking import destination_of

    return destination_of(lock, run_id=run_id, experiment=experiment, world=world)


def _record(image: Image, it: Planned, destination: Destination, world: World) -> str:
    from envlock.cli.tracking import send
    from envlock.dockerfile import dockerfile
    from envlock.record import make_record

    record = make_record(
        image=image,
        plan=it.plan,
        lock_bytes=it.lock_bytes,
        spec_bytes=it.spec_bytes,
        dockerfile=dockerfile(it.plan),
        requirements=requirements_txt(it.plan.lock),
    )
    return send(record, destination, world=world)


def _report(image: Image, run_id: str | None, *, output: Path | None, as_json: bool) -> None:
    if as_json:
        answer = {
            "image": image.reference,
            "image_id": image.image_id,
            "manifest_digest": image.manifest_digest,
            "pushed": image.pushed,
            "output": str(output) if output else None,
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
        print(f"  digest    {image.manifest_digest}")
    if image.pushed:
        print(f"  pushed    {image.pushed}")
    if output:
        print(f"  written   {output}")
    if run_id:
        print(f"  run       {run_id}")
    if image.seconds:
        print("  seconds   " + ", ".join(f"{step} {took:.1f}" for step, took in image.seconds.items()))
