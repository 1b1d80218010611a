"""``envlock diff``: what differs between two environments."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from envlock import diff as differences
from envlock.cli import refs
from envlock.cli.world import World
from envlock.errors import UsageError


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help=refs.HELP)],
    after: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
) -> None:
    """Say what differs between two environments, the likeliest to move a result first. Exit code 0 same, 1 different.

    What one side does not say is named as unknown and is no difference.

    Example:  envlock diff 0f6e4f0d5f7c4f6f8d0a1b2c3d4e5f60 envlock.lock
    """
    if as_json and markdown:
        raise UsageError("--json and --markdown exclude each other")
    world = World.here()
    comparison = differences.compare(refs.environment_of(before, world=world), refs.environment_of(after, world=world))
    if as_json:
        print(json.dumps(differences.as_json(comparison), indent=2, ensure_ascii=False))
    elif markdown:
        print(differences.as_markdown(comparison), end="")
    else:
        colour = sys.stdout.isatty() and not world.environ.get("NO_COLOR") and world.environ.get("TERM") != "dumb"
        print(differences.as_text(comparison, colour=colour), end="")
    if not comparison.same:
        raise typer.Exit(1)
