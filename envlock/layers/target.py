"""What wheels are installed into: an interpreter and a virtual environment of it."""

from __future__ import annotations

from dataclasses import dataclass

from envlock.errors import InputError
from envlock.model.lock import BasePython
from envlock.model.plan import VENV


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A virtual environment in an image (PEP 405, scheme "venv" of sysconfig on Debian)."""

    python: str  # full version, "3.11.2"
    venv: str = VENV  # absolute path in the image

    @property
    def minor(self) -> str:
        """Return major and minor version, "3.11"."""
        return ".".join(self.python.split(".")[:2])

    @property
    def cache_tag(self) -> str:
        """Return what compiled files have in their name (PEP 3147)."""
        return f"cpython-{self.minor.replace('.', '')}"

    @property
    def interpreter(self) -> str:
        """Return the interpreter's path, as it stands in scripts."""
        return f"{self.venv}/bin/python"

    @property
    def site_packages(self) -> str:
        """Return where modules go."""
        return f"{self.venv}/lib/python{self.minor}/site-packages"

    def scheme(self, name: str) -> dict[str, str]:
        """Return the folder of each kind of file of the distribution ``name``, as pip has it."""
        return {
            "purelib": self.site_packages,
            "platlib": self.site_packages,
            "headers": f"{self.venv}/include/site/python{self.minor}/{name}",
            "scripts": f"{self.venv}/bin",
            "data": self.venv,
        }


def target_of(python: BasePython) -> Target:
    """Return the target that a base's interpreter makes; raises ``InputError`` for another one than CPython."""
    if python.implementation != "cpython":
        raise InputError(
            f"the base has {python.implementation}, and layers can be made for CPython only",
            hint="build with --plain",
        )
    return Target(python=python.version)
