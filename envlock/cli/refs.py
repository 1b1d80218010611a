"""What a REF on the command line means.

A REF is a lock file, an image, an MLflow run's ID, or ``live``. Where a text could be two of them, nothing is guessed:
``lock:``, ``image:``, ``run:`` and ``live`` say which.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from envlock.adapters.live import read_live
from envlock.cli.files import LOCK, read_lock
from envlock.cli.world import World
from envlock.errors import UsageError
from envlock.formats.reference import parse_reference
from envlock.model.environment import Environment
from envlock.show import environment_of_image, environment_of_live, environment_of_lock

HELP = "A lock file, an image, an MLflow run ID, or 'live'; lock:, image: and run: in front say which it is."

Kind = Literal["lock", "image", "run", "live"]

_RUN = re.compile(r"[0-9a-f]{32}")
_PREFIX = re.compile(r"(?P<kind>lock|image|run):(?P<rest>.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ref:
    """A REF that is understood."""

    kind: Kind
    value: str


def parse_ref(text: str, *, cwd: Path) -> Ref:
    """Say what a REF means; raises ``UsageError`` for one that means nothing or two things."""
    if text.startswith("runs:/"):
        return Ref(kind="run", value=_run_id(text.removeprefix("runs:/").partition("/")[0], text))
    if text == "live":
        return Ref(kind="live", value=text)
    is_file = (cwd / text).is_file()
    prefixed = _PREFIX.fullmatch(text)
    if prefixed and not is_file:
        return _prefixed(prefixed["kind"], prefixed["rest"], text)
    if _RUN.fullmatch(text):
        if is_file:
            raise UsageError(f"{text} is a file here and could be a run's ID", hint=f"write lock:{text} or run:{text}")
        return Ref(kind="run", value=text)
    if is_file or _looks_like_path(text):
        return Ref(kind="lock", value=text)
    if (cwd / text).is_dir() and (cwd / text / LOCK).is_file():
        raise UsageError(
            f"{text!r} is a folder with a lock and could be an image", hint=f"write {text}/{LOCK} or image:{text}"
        )
    return Ref(kind="image", value=_image(text))


def environment_of(text: str, *, world: World) -> Environment:
    """Read the environment that a REF names."""
    ref = parse_ref(text, cwd=world.cwd)
    if ref.kind == "lock":
        return environment_of_lock(read_lock(world.cwd / ref.value)[0], title=text)
    if ref.kind == "live":
        return environment_of_live(read_live(active_python(world.environ), environ=world.environ), title=text)
    if ref.kind == "run":
        with world.progress.task(f"Reading run {ref.value}"):
            return world.runs(None).environment(ref.value, title=text)
    with world.progress.task(f"Reading image {ref.value}"):
        return environment_of_image(ref.value, engine=world.engine, title=text)


def active_python(environ: Mapping[str, str]) -> Path:
    """Return the active environment's Python: a virtual one, conda's, else the one that runs envlock."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if environ.get(variable):
            return Path(environ[variable], "bin", "python")
    return Path(sys.executable)


def _prefixed(kind: str, rest: str, text: str) -> Ref:
    if kind == "run":
        return Ref(kind="run", value=_run_id(rest, text))
    if kind == "image":
        return Ref(kind="image", value=_image(rest))
    return Ref(kind="lock", value=rest)


def _run_id(value: str, text: str) -> str:
    if not _RUN.fullmatch(value):
        raise UsageError(f"{text!r} names no MLflow run", hint="a run's ID is 32 hex digits: 'envlock build' prints it")
    return value


def _looks_like_path(text: str) -> bool:
    # none of these can be an image reference: the message about a missing file is the better one
    return text.startswith((".", "/", "~")) or text.endswith(".lock")


def _image(text: str) -> str:
    if re.fullmatch(r"(?:sha256:)?[0-9a-f]{64}", text):
        return text
    parse_reference(text)
    return text
