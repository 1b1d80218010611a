"""The scripts that pip makes for entry points, and what it does to scripts that a wheel brings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from envlock.layers.target import Target

# pip's own template, which is distlib's without the import of re: the same in all versions since 25.0.
_TEMPLATE = """\
import sys
from {module} import {imported}
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit({function}())
"""
_LONGEST_SHEBANG = 127  # bytes that Linux is sure to read (distlib)

# distlib's pattern for an entry point (name = module:object [extras]), for the whole line.
_POINT = re.compile(r"(?P<name>[^\[\s=][^\s=]*) = (?P<module>\w+(?:\.\w+)*):(?P<object>\w+(?:\.\w+)*)\s*(?:\[.*\])?")
_VERSIONED_PIP = re.compile(r"pip(\d+(\.\d+)?)?")
_VERSIONED_EASY_INSTALL = re.compile(r"easy_install(-\d+\.\d+)?")


class BadEntryPoint(ValueError):
    """An entry point that makes no script; the argument is the line."""


@dataclass(frozen=True, slots=True)
class EntryPoints:
    """A wheel's scripts by name: name → "module:object"."""

    console: dict[str, str] = field(default_factory=dict)
    gui: dict[str, str] = field(default_factory=dict)

    def hides(self, filename: str) -> bool:
        """Say whether a script in the wheel is a setuptools wrapper for one of these; pip leaves those out."""
        lower = filename.lower()
        for ending in (".exe", "-script.py", ".pya"):
            if lower.endswith(ending):
                filename = filename[: -len(ending)]
                break
        return filename in self.console or filename in self.gui


def parse_entry_points(text: str) -> EntryPoints:
    """Read ``entry_points.txt`` (entry points specification) as ``importlib.metadata`` does."""
    points, group = EntryPoints(), ""
    for line in (raw.strip() for raw in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
            continue
        name, _, value = line.partition("=")
        if group == "console_scripts":
            points.console[name.strip()] = value.strip()
        elif group == "gui_scripts":
            points.gui[name.strip()] = value.strip()
    return points


def generated_scripts(points: EntryPoints, target: Target) -> dict[str, bytes]:
    """Return file name → content of the scripts for all entry points; raises ``BadEntryPoint``."""
    shebang = _shebang(target.interpreter)
    return {
        name: shebang + _script(name, value)
        for name, value in (*_with_versions(points.console, target).items(), *points.gui.items())
    }


def fixed_first_line(line: bytes, target: Target) -> bytes:
    """Return the first line of a wheel's own script as pip leaves it (binary distribution format, "#!python")."""
    return b"#!" + target.interpreter.encode() + b"\n" if line.startswith(b"#!python") else line


def _with_versions(console: dict[str, str], target: Target) -> dict[str, str]:
    """Return the scripts with the versions of ``pip`` and ``easy_install`` that fit the target, as pip does."""
    rest = dict(console)
    made: dict[str, str] = {}
    if value := rest.pop("pip", None):
        made |= {"pip": value, f"pip{target.minor.partition('.')[0]}": value, f"pip{target.minor}": value}
        rest = {name: other for name, other in rest.items() if not _VERSIONED_PIP.fullmatch(name)}
    if value := rest.pop("easy_install", None):
        made |= {"easy_install": value, f"easy_install-{target.minor}": value}
        rest = {name: other for name, other in rest.items() if not _VERSIONED_EASY_INSTALL.fullmatch(name)}
    return made | rest


def _script(name: str, value: str) -> bytes:
    point = _POINT.fullmatch(f"{name} = {value}")
    if point is None or "/" in name or name in {".", ".."} or not name.isprintable():
        raise BadEntryPoint(f"{name} = {value}")
    function = point["object"]
    return _TEMPLATE.format(module=point["module"], imported=function.partition(".")[0], function=function).encode()


def _shebang(interpreter: str) -> bytes:
    """Return the first line; a path that the kernel cannot read there goes through /bin/sh, as distlib does it."""
    path = interpreter.encode()
    if b" " not in path and len(path) + 3 <= _LONGEST_SHEBANG:
        return b"#!" + path + b"\n"
    quoted = b'"' + path + b'"' if b" " in path else path
    return b"#!/bin/sh\n'''exec' " + quoted + b' "$0" "$@"\n' + b"' '''\n"
