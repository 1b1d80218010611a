"""Which kind of file a source is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from envlock.errors import UsageError
from envlock.init.found import Found
from envlock.init.from_conda import from_conda
from envlock.init.from_pyproject import from_pyproject
from envlock.init.from_requirements import from_requirements

# What init looks for where nothing is named; the first that is there is taken.
SOURCES = ("requirements.in", "requirements.txt", "pyproject.toml", "environment.yml", "environment.yaml")

# `conda list --export`, whatever the file is called: people save it as environment.yml
_EXPORTED = re.compile(
    r"^(?:# This file may be used to create an environment|[A-Za-z0-9_][A-Za-z0-9_.-]*=[^=\s]+=\S+\s*$)", re.MULTILINE
)


def read_source(
    text: str, *, file: str, read: Callable[[str], str], extras: Sequence[str] = (), groups: Sequence[str] = ()
) -> Found:
    """Return what a file says; its kind is told by its name and, for conda's, by its text.

    ``file`` is relative to the new spec, and ``read`` reads other files likewise (``OSError``). Raises ``SpecError``
    for a file that is not what it seems, ``UsageError`` for options that do not fit it.
    """
    is_toml = file.endswith(".toml")
    if (extras or groups) and not is_toml:
        raise UsageError(f"{file} has no extras and no groups", hint="--extra and --group are for pyproject.toml")
    if is_toml:
        return from_pyproject(text, file=file, extras=extras, groups=groups)
    if file.endswith((".yml", ".yaml")) or _EXPORTED.search(text):
        return from_conda(text, file=file, read=read)
    return from_requirements(text, file=file, read=read)
