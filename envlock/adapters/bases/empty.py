"""The empty virtual environment of a base, made in a container by the base's own Python."""

from __future__ import annotations

from envlock.errors import BuildFailed
from envlock.formats.base_files import BaseFiles
from envlock.layers.skeleton import PROGRAM, Skeleton, read_skeleton
from envlock.model.lock import Base
from envlock.ports import Container


def refuse_occupied(base: Base, files: BaseFiles, venv: str) -> None:
    """Raise ``BuildFailed`` where the base has something at the environment's place, which would be mixed with it."""
    if files.find(venv) is not None:
        raise BuildFailed(
            f"{base.reference} has a folder {venv} already, where envlock keeps its environment",
            hint="take a base without it: an image that envlock built is none",
        )


def container_skeleton(container: Container, base: Base, venv: str) -> Skeleton:
    """Return what ``PROGRAM`` makes; it runs with the base's own variables. Raises ``BuildFailed``, ``EngineError``."""
    done = container.run([base.python.executable, "-I", "-B", "-c", PROGRAM, venv], workdir="/")
    if done.exit_code:
        raise failed(base, done.stderr)
    return read_skeleton(done.stdout)


def failed(base: Base, stderr: bytes) -> BuildFailed:
    """Return the error for a base whose Python makes no environment."""
    return BuildFailed(
        f"the Python of {base.reference} cannot make a virtual environment",
        details=stderr.decode(errors="replace").splitlines()[-10:],
        hint="has it the module venv? (in Debian and Ubuntu: the package python3-venv)",
    )
