"""Lists of installed packages as people keep them beside a run: pip's, conda's, and MLflow's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from packaging.utils import canonicalize_name

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*===?\s*(?P<version>[^\s;#,\\*]+)")
_DIRECT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s+@\s+(?P<url>\S+)")
_CONDA_PIN = re.compile(r"(?:[^\s:]+::)?(?P<name>[a-zA-Z0-9_.-]+)={1,2}(?P<version>[^=\s]+)(?:=(?P<build>\S+))?")
_VERSION_IN_FILE = re.compile(r"-(?P<version>[0-9][^-/]*?)(?:-[^/]*\.whl|\.tar\.gz|\.zip)(?:[#?].*)?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Packages by normalized name, the Python version where the list has it, and whether the list is complete."""

    packages: Mapping[str, str]
    python: str | None = None
    complete: bool = True


def parse_freeze(text: str) -> Listing:
    """Read ``pip freeze`` or a requirements file: exact pins only; a line without one makes the list incomplete."""
    packages: dict[str, str] = {}
    complete = True
    for line in text.replace("\\\n", " ").splitlines():
        entry = line.strip()
        if not entry or entry.startswith(("#", "--hash", "-i ", "--index-url", "--extra-index-url", "--find-links")):
            continue
        if pin := _PIN.match(entry):
            packages[canonicalize_name(pin["name"])] = pin["version"]
        elif direct := _DIRECT.match(entry):
            found = _VERSION_IN_FILE.search(direct["url"])
            packages[canonicalize_name(direct["name"])] = found["version"] if found else f"@ {direct['url']}"
        else:
            complete = False
    return Listing(packages=packages, complete=complete)


def parse_conda(text: str) -> Listing:
    """Read a conda environment file, or ``conda list --export`` under the same name."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return _conda_list(text.splitlines())
    dependencies = document.get("dependencies")
    items: list[Any] = dependencies if isinstance(dependencies, list) else []
    conda = _conda_list([item for item in items if isinstance(item, str)])
    nested = [item["pip"] for item in items if isinstance(item, dict) and isinstance(item.get("pip"), list)]
    pip = parse_freeze("\n".join(str(line) for lines in nested for line in lines))
    return Listing(
        packages={**conda.packages, **pip.packages}, python=conda.python, complete=False
    )  # such a file lists what was asked for, and MLflow's lists what a model needs


def _conda_list(lines: list[str]) -> Listing:
    packages: dict[str, str] = {}
    for line in lines:
        if pin := _CONDA_PIN.fullmatch(line.strip()):
            packages[canonicalize_name(pin["name"])] = pin["version"]
    return Listing(packages=packages, python=packages.pop("python", None))


# File name → how to read it; the more complete a kind of list is, the earlier it stands.
LISTINGS: Mapping[str, Callable[[str], Listing]] = {
    "pip-freeze.txt": parse_freeze,
    "pip_freeze.txt": parse_freeze,
    "requirements-frozen.txt": parse_freeze,
    "requirements.txt": parse_freeze,
    "conda.yaml": parse_conda,
    "environment.yml": parse_conda,
    "environment.yaml": parse_conda,
}
