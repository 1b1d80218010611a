"""``envlock export``: a folder that any builder builds offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from envlock.cli.files import LOCK, SPEC, LockOption, SpecOption
from envlock.cli.packages import wanted
from envlock.cli.planning import planned
from envlock.cli.world import World
from envlock.export import export as write_folder


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it: a new or empty folder.")],
    *,
    spec: SpecOption = Path(SPEC),
    lock_file: LockOption = Path(LOCK),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the Dockerfile and everything that it needs into a folder that builds with no network by any builder.

    Example:  envlock export image && docker build --network none image
    """
    world = World.here()
    it = planned(spec, lock_file, world=world)
    write_folder(
        it.plan,
        folder,
        wanted=wanted(it.plan.lock, it.folder, world=world),
        artifacts=world.artifacts,
        project=it.folder,
        force=force,
        progress=world.progress,
    )
    if as_json:
        print(json.dumps({"folder": str(folder), "fingerprint": it.plan.fingerprint}))
    else:
        print(f"exported to {folder}: docker build --network none {folder}")
