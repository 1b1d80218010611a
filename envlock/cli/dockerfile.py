"""``envlock dockerfile``: the lock as a Dockerfile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from envlock.cli.files import LOCK, SPEC, LockOption, SpecOption, write_whole
from envlock.cli.planning import planned
from envlock.cli.world import World
from envlock.dockerfile import dockerfile as render


def dockerfile(
    *,
    spec: SpecOption = Path(SPEC),
    lock_file: LockOption = Path(LOCK),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
) -> None:
    """Print the Dockerfile that the image is built from. 'envlock export' writes it with all that it needs.

    Example:  envlock dockerfile --output Dockerfile
    """
    text = render(planned(spec, lock_file, world=World.here()).plan)
    if output is None:
        print(text, end="")
    else:
        write_whole(output, text)
