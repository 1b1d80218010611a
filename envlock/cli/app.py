"""The command line: its options, and the group of its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from envlock import __version__
from envlock.cli.commands import Commands

app = typer.Typer(
    name="envlock",
    cls=Commands,
    help="One lock, one image, for machine-learning training.",
    epilog="Exit codes: 0 fine, 1 a difference, 2 the input is wrong, 3 the world failed.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass
