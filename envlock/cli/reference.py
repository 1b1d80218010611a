"""The README's table of commands, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer.main

from envlock.cli.app import app

BEGIN, END = "<!-- commands:begin -->", "<!-- commands:end -->"


def commands() -> str:
    """Return a Markdown table: each command with its arguments, what it does, and its options."""
    rows = ["| command | what it does | options |", "|---|---|---|"]
    for name, command in commands_by_name().items():
        summary = " ".join(str(command.help).split("\n\n")[0].split())
        arguments = [_argument(parameter) for parameter in _shown(command, "argument")]
        options = [_option(parameter) for parameter in _shown(command, "option")]
        rows.append(f"| `{' '.join([name, *arguments])}` | {summary} | {' · '.join(options)} |")
    return "\n".join(rows) + "\n"


def commands_by_name() -> Mapping[str, Any]:
    """Return Typer's command for each name, in their order."""
    group: Any = typer.main.get_command(app)
    commands: Mapping[str, Any] = group.commands
    return commands


def _shown(command: Any, kind: str) -> list[Any]:
    return [p for p in command.params if p.param_type_name == kind and not getattr(p, "hidden", False)]


def _argument(parameter: Any) -> str:
    name = parameter.metavar or _metavar(parameter)
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    # the longest name says most; the others are in --help
    name = max(parameter.opts, key=len)
    value = str(parameter.metavar or _metavar(parameter)).replace("|", "\\|")
    return f"`{name}`" if parameter.is_flag else f"`{name} {value}`"


def _metavar(parameter: Any) -> str:
    return str(parameter.name).upper()
