"""All commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from envlock import __version__
from envlock.cli.boundary import Boundary
from envlock.cli.build import build
from envlock.cli.diff import diff
from envlock.cli.dockerfile import dockerfile
from envlock.cli.export import export
from envlock.cli.init import init
from envlock.cli.lock import lock
from envlock.cli.record import record
from envlock.cli.run import run
from envlock.cli.show import show

app = typer.Typer(
    name="envlock",
    cls=Boundary,
    help="One lock, one image, for machine-learning training.",
    epilog="Exit codes: 0 fine, 1 a difference, 2 the input is wrong, 3 the world failed.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (init, lock, dockerfile, export, build, run, record, show, diff):
    app.command(name=command.__name__)(command)


@app.callback()
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()
