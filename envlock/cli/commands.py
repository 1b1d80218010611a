"""The commands by name, each imported when it is asked for: all of them together take longer than most of them run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer.main

from envlock.cli.boundary import Boundary

# In the order of ``envlock --help``; each is the function in the module of its name.
NAMES = ("init", "lock", "dockerfile", "export", "build", "verify", "run", "record", "show", "diff", "cache")


class Commands(Boundary):
    """The group of all commands."""

    commands: Any

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Imported()


class _Imported(Mapping[str, Any]):
    """Typer's command for each name."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    def __getitem__(self, name: str) -> Any:
        if name not in NAMES:
            raise KeyError(name)
        if name not in self._made:
            alone = typer.Typer(add_completion=False)
            alone.command(name)(getattr(import_module(f"envlock.cli.{name}"), name))
            self._made[name] = typer.main.get_command(alone)
        return self._made[name]
