"""A base's own Python on this machine, out of its unpacked files: the same environment as in a container, elsewhere."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from envlock.adapters.bases.empty import failed
from envlock.adapters.compilers import unpacked_interpreter
from envlock.adapters.compilers.wire import OPTIONS
from envlock.errors import StorageError, WorldError
from envlock.layers.skeleton import ANSWER, Skeleton, read_skeleton
from envlock.model.lock import Base

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")  # what nobody quotes in a script (shlex.quote), here as there

# Arguments: a folder to make and remove, the environment's place in it, the interpreter's path, folders of PYTHONPATH;
# all of them below a prefix that is taken out of the answer afterwards. What ``-m venv`` does, by an interpreter that
# does not know where it is. It removes the folder itself: so it is gone too where envlock was killed meanwhile.
PROGRAM = (
    ANSWER
    + r"""
import importlib.metadata, shutil, venv
top, place, python, *paths = sys.argv[1:]
os.mkdir(top, 0o700)
try:
    os.umask(0o022)
    sys.executable = sys._base_executable = python
    venv.main(["--without-pip", top + place])
    entries = listed(top + place)
finally:
    shutil.rmtree(top)
found = importlib.metadata.distributions(path=[*paths, *sys.path])
done(entries, [str(one.metadata["Name"]) for one in found])
"""
)


def unrooted_skeleton(root: Path, base: Base, venv: str, *, paths: Sequence[str] = ()) -> Skeleton:
    """Return what the base's Python makes at ``venv``, made below a temporary folder that is gone afterwards.

    ``root`` has the base's files as far as Python needs them. Raises ``BuildFailed``, ``WorldError``.
    """
    root = root.resolve()
    python = f"{root}{base.python.executable}"
    if (Path(python).parent.parent / "pyvenv.cfg").exists():
        raise WorldError(
            f"the Python of {base.reference} is in a virtual environment of its own",
            hint="without an engine, envlock can only build on a base whose own Python it is",
        )
    argv, environment = unpacked_interpreter(root, base.python.executable)
    top = str(_new_folder())
    places = [f"{root}{path}" for path in paths]
    try:
        done = subprocess.run(
            [*argv, *OPTIONS, "-c", PROGRAM, top, venv, python, *places],
            env={"LC_ALL": "C.UTF-8", **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    finally:
        shutil.rmtree(top, ignore_errors=True)
    if done.returncode:
        raise failed(base, done.stderr)
    return _without(read_skeleton(done.stdout), (top, str(root)))


def _new_folder() -> Path:
    """Return where to make a folder whose name looks the same in a script, quoted or not, as the one in the image."""
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - a private folder is made there
        place = Path(folder).resolve()
        if _PLAIN.fullmatch(str(place)) and os.access(place, os.W_OK | os.X_OK):
            return place / f"envlock-{secrets.token_hex(8)}"
    raise StorageError("there is no folder for temporary files", hint="set TMPDIR to one whose name is plain")


def _without(entries: Skeleton, prefixes: Sequence[str]) -> Skeleton:
    """Take prefixes out of all paths, targets and contents."""

    def bare(text: str) -> str:
        for prefix in prefixes:
            text = text.removeprefix(prefix)
        return text

    def plain(content: str) -> str:
        raw = base64.b64decode(content)
        for prefix in prefixes:
            raw = raw.replace(prefix.encode() + b"/", b"/")
        return base64.b64encode(raw).decode()

    changes = {"link": bare, "content": plain}
    return {
        bare(path): {name: changes[name](value) if name in changes else value for name, value in entry.items()}
        for path, entry in entries.items()
    }
