"""A start from a Python environment of this machine: exact pins."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from envlock.formats.requirement import BadRequirement, canonical
from envlock.init.found import Found, LeftOut
from envlock.model.live import LiveEnvironment

_OWN = frozenset({"pip", "envlock"})  # the tools themselves


def from_live(live: LiveEnvironment) -> Found:
    """Return exact pins of everything that came from an index; what did not is left out, and said."""
    packages: dict[str, None] = {}
    left_out: list[LeftOut] = []
    for name, version in sorted(live.installed.packages.items()):
        if name in live.direct:
            left_out.append(LeftOut(what=f"{name} {version}", why=_why(live.direct[name])))
        elif name not in _OWN:
            try:
                packages.setdefault(canonical(f"{name}=={version}"))
            except BadRequirement as error:
                left_out.append(LeftOut(what=f"{name} {version}", why=error.message))
    full = re.match(r"3\.[0-9]+\.[0-9]+", live.installed.python_version)
    is_linux = live.platform.startswith("linux/")
    if not is_linux:
        left_out.append(LeftOut(what=f"platform {live.platform}", why="images are built for Linux"))
    return Found(
        source="the running Python environment",
        python=".".join(live.installed.python_version.split(".")[:2]),
        python_why=f"the environment has {live.implementation} {live.installed.python_version}",
        python_full=full[0] if full else None,
        platform=live.platform if is_linux else None,
        packages=tuple(packages),
        left_out=tuple(left_out),
    )


def _why(direct: str) -> str:
    place = "editable" if direct == "editable" else urlsplit(direct).scheme or direct
    kinds = {"editable": "an editable installation", "file": "installed from this machine's disk"}
    advice = "project.include takes your own code along; a wheel of it can stand in a folder of pip.find_links"
    return f"{kinds.get(place, f'installed from {direct}')}: {advice}"
