"""What the README says about the command line is what the command line says."""

from __future__ import annotations

import re
from pathlib import Path

from envlock.cli.reference import BEGIN, END, commands, commands_by_name

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_table_of_commands_is_current() -> None:
    _, _, rest = README.partition(BEGIN)
    assert rest.partition(END)[0].strip() == commands().strip(), "is not current: run make docs"


def test_every_command_has_an_example() -> None:
    for name, command in commands_by_name().items():
        assert re.search(r"Examples?:  envlock ", command.help), name


def test_what_the_readme_names_is_there() -> None:
    root = Path(__file__).resolve().parents[2]
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert f"\n{target}:" in makefile, target
    for name in re.findall(r"`envlock ([a-z]+)", README):
        assert name in commands_by_name(), name
