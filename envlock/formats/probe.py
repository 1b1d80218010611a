"""What a Python says of itself and of what is installed beside it, asked by a small program that imports none of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

# Python 3.8 and newer, standard library only. The first of two installations on sys.path is the one that gets imported.
# torch's own version and CUDA stand in torch/version.py; importing torch would take seconds, and may want a GPU.
SCRIPT = r"""
import importlib.metadata, importlib.util, json, os, platform, sys
packages = {}
for found in importlib.metadata.distributions():
    name = found.metadata["Name"]
    if name:
        packages.setdefault(name, found.version)
torch = {}
try:
    place = importlib.util.find_spec("torch")
    if place is not None and place.origin:
        with open(os.path.join(os.path.dirname(place.origin), "version.py")) as stream:
            exec(stream.read(), torch)
except Exception:
    pass
json.dump({"version": platform.python_version(), "full": sys.version, "packages": packages,
           "torch": torch.get("__version__"), "cuda": torch.get("cuda")}, sys.stdout)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """The program's answer."""

    python: str  # "3.11.2"
    full: str  # sys.version
    packages: Mapping[str, str]  # normalized name → version
    torch: str | None  # torch.__version__
    cuda: str | None  # torch.version.cuda


def parse_probe(output: bytes) -> Probed:
    """Read the program's output; raises ``ValueError``."""
    answer = json.loads(output)
    if not isinstance(answer, dict) or not isinstance(answer.get("packages"), dict):
        raise ValueError("the Python of the image answers something else than was asked")  # noqa: TRY004
    packages: dict[str, str] = {
        canonicalize_name(str(name)): str(version) for name, version in answer["packages"].items()
    }
    return Probed(
        python=str(answer["version"]),
        full=str(answer["full"]),
        packages=packages,
        torch=_text(answer.get("torch")),
        cuda=_text(answer.get("cuda")),
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
