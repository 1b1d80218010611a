"""``envlock show``: what is in a lock, an image, a run, or this Python environment."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from envlock.cli import refs
from envlock.cli.world import World
from envlock.show import as_json as to_json
from envlock.show import as_text


def show(
    ref: Annotated[str, typer.Argument(metavar="REF", help=refs.HELP)],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show an environment: base, OS, Python, CUDA, system and Python packages, variables, seeds, labels.

    Example:  envlock show envlock.lock
    """
    environment = refs.environment_of(ref, world=World.here())
    if as_json:
        print(json.dumps(to_json(environment), indent=2, ensure_ascii=False))
    else:
        print(as_text(environment), end="")
