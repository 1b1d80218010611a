"""What a container of an image says is installed in it."""

from __future__ import annotations

from envlock.errors import BuildFailed
from envlock.formats.installed import as_installed
from envlock.formats.probe import SCRIPT, parse_probe
from envlock.model.image import Installed
from envlock.model.plan import VENV
from envlock.ports import Container

_PYTHON = f"{VENV}/bin/python"
_NO_INDEX_SETTINGS = {"PIP_CONFIG_FILE": "/dev/null"}
_SHOWN = 20  # lines of a program that failed


def read_installed(container: Container) -> Installed:
    """Ask the image's own Python; raises ``BuildFailed`` where it does not say."""
    try:
        probed = parse_probe(_run(container, "-c", SCRIPT))
    except ValueError as error:
        raise BuildFailed(f"the Python of the image does not say what is installed: {error}") from error
    freeze = None
    if "pip" in probed.packages:
        options = ("--isolated", "--disable-pip-version-check")
        freeze = _run(container, "-m", "pip", *options, "freeze", "--all").decode(errors="replace")
    return as_installed(probed, freeze)


def _run(container: Container, *arguments: str) -> bytes:
    # Not in the project's folder, whose files could be taken for modules of the same name.
    done = container.run([_PYTHON, *arguments], env=_NO_INDEX_SETTINGS, workdir="/")
    if done.exit_code != 0:
        lines = (done.stderr or done.stdout).decode(errors="replace").splitlines()
        raise BuildFailed(f"{_PYTHON} of the image does not run", details=lines[-_SHOWN:])
    return done.stdout
