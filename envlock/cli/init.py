"""``envlock init``: write a first spec from what is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from envlock.adapters.live import read_live
from envlock.cli.files import SPEC, write_whole
from envlock.errors import UsageError
from envlock.formats import requirements
from envlock.formats.text import decode
from envlock.init import SOURCES, Choices, Found, as_name, from_live, read_source, spec_text


def init(
    *,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A requirements file, pyproject.toml, or a conda environment."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--from-live", help="Start from the active Python environment, with exact pins.")
    ] = False,
    spec: Annotated[Path, typer.Option("--spec", "-f", help="The spec to write.")] = Path(SPEC),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a spec that is there.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="What the environment is called.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="The base image.")] = None,
    python: Annotated[str | None, typer.Option("--python", help="The base's Python version, like 3.11.")] = None,
    extra: Annotated[
        list[str] | None, typer.Option("--extra", metavar="NAME", help="Take this extra of pyproject.toml. Repeatable.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME", help="Take this dependency group of pyproject.toml. Repeatable."),
    ] = None,
) -> None:
    """Write envlock.yaml from what is there: requirements.in or .txt, pyproject.toml, or a conda environment.

    What it could not carry over is listed on stderr, and at the end of the file.

    Example:  envlock init --from requirements.in --base python:3.11-slim-bookworm
    """
    if spec.exists() and not force:
        raise UsageError(f"{spec} is there already", hint="--force overwrites it; --spec writes another file")
    if live and (source or extra or group):
        raise UsageError("--from-live goes without --from, --extra and --group")
    found = from_live(read_live(_interpreter(os.environ), environ=os.environ)) if live else None
    found = found or _from_file(source or _first_source(spec.parent), spec, extra or [], group or [])
    choices = Choices(name=name, base=base, python=python)
    folder = as_name(spec.absolute().parent.name) or "demo"
    write_whole(spec, spec_text(found, choices=choices, folder=folder))
    _tell(found)
    print(spec)


def _from_file(source: Path | None, spec: Path, extras: list[str], groups: list[str]) -> Found:
    if source is None:
        if extras or groups:
            raise UsageError("there is no pyproject.toml for --extra and --group to choose from")
        return Found(source="nothing")
    root = spec.absolute().parent
    # relative to the spec, since that is how the spec has to name it
    file = Path(os.path.relpath(source.absolute(), root)).as_posix()

    def read(path: str) -> str:
        return decode((root / path).read_bytes(), file=path, limit=requirements.MAX_SIZE)

    try:
        text = read(file)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {(error.strerror or str(error)).lower()}") from error
    return read_source(text, file=file, read=read, extras=extras, groups=groups)


def _first_source(folder: Path) -> Path | None:
    there = [folder / name for name in SOURCES if (folder / name).is_file()]
    if len(there) > 1:
        others = ", ".join(path.name for path in there[1:])
        print(
            f"envlock: starting from {there[0].name}; there is {others} as well (--from takes another)", file=sys.stderr
        )
    return there[0] if there else None


def _interpreter(environ: Mapping[str, str]) -> Path:
    """Return the active environment's Python: a virtual one, conda's, else the one that runs envlock."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if environ.get(variable):
            return Path(environ[variable], "bin", "python")
    return Path(sys.executable)


def _tell(found: Found) -> None:
    if found.source == "nothing":
        print("envlock: found nothing to start from: list the Python packages under pip", file=sys.stderr)
    if found.assumed:
        names = ", ".join(found.assumed)
        print(f"envlock: check that these are the same projects on the package index: {names}", file=sys.stderr)
    if found.left_out:
        print(f"envlock: {len(found.left_out)} not carried over from {found.source}:", file=sys.stderr)
        for item in found.left_out:
            print(f"  {item.what}: {item.why}", file=sys.stderr)
