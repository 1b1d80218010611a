"""``envlock run``: a command in the image of a lock."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from envlock import run as runs
from envlock.adapters.engine.endpoint import find_endpoint
from envlock.cli.files import LOCK, LockOption, read_lock
from envlock.cli.tracking import destination_of
from envlock.cli.world import World
from envlock.errors import UsageError
from envlock.formats.lock_json import fingerprint


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="What to run, and its arguments.")],
    *,
    lock_file: LockOption = Path(LOCK),
    image: Annotated[str | None, typer.Option("--image", metavar="REF", help="This image, not the lock's.")] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="The MLflow run that the command logs to.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="K=V|K", help="Set a variable, or pass one on. Repeatable."),
    ] = None,
    volume: Annotated[
        list[str] | None,
        typer.Option("--volume", "-v", metavar="HOST:CONTAINER", help="Show a folder inside. Repeatable."),
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", metavar="NETWORK", help="The engine's network to be in.")
    ] = None,
    gpus: Annotated[bool, typer.Option("--gpus", help="Give it all GPUs of the engine's machine.")] = False,
) -> None:
    """Run a command in the image of the lock; its output and its exit code are the command's own.

    It is given MLFLOW_TRACKING_URI, MLFLOW_RUN_ID and MLFLOW_EXPERIMENT_NAME, and MLflow's user and password or token
    where they are set here. Ctrl-C asks it to end, and gives it ten seconds to do so.

    Example:  envlock run --run-id 0f6e4f0d5f7c4f6f8d0a1b2c3d4e5f60 --volume ./data:/data -- python train.py --epochs 3
    """
    world = World.here()
    if image is not None and lock_file != Path(LOCK):
        raise UsageError("--image and --lock exclude each other")
    lock = None if image is not None else read_lock(lock_file)[0]
    destination = destination_of(lock, run_id=run_id, experiment=None, world=world)
    wanted = (lock is not None and lock.mlflow.tracking_uri) or world.environ.get("MLFLOW_TRACKING_URI")
    given = runs.given(
        tracking_uri=destination.tracking_uri if wanted else None,  # not what MLflow would make in this folder
        run_id=destination.run_id,
        experiment=destination.experiment,
        network=network,
        env=env or (),
        volumes=volume or (),
        environ=world.environ,
        cwd=world.cwd,
        engine_is_here=find_endpoint(world.environ).is_here,
    )
    if lock is not None:
        reference = runs.image_of(lock.image.repository, fingerprint(lock), engine=world.engine)
    else:
        reference = runs.image_named(image or "", engine=world.engine)
    for message in given.messages:
        world.progress.message(message)
    code = world.engine.run(
        reference,
        command,
        env=given.env,
        volumes=given.volumes,
        network=given.network,
        gpus=gpus,
        on_output=_show,
    )
    raise typer.Exit(code)


def _show(data: bytes, is_stderr: bool) -> None:
    stream = sys.stderr.buffer if is_stderr else sys.stdout.buffer
    stream.write(data)
    stream.flush()
