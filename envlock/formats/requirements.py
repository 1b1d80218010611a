"""Requirements files with everything that they include: to canonical requirements and constraints."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from packaging.requirements import Requirement

from envlock.errors import Fault, SpecError
from envlock.formats.requirement_lines import Include, Pinned, Refused, read_lines
from envlock.formats.text import quote

MAX_SIZE = 8 * 1024 * 1024  # bytes; a hash-pinned list of a thousand packages has two million
MAX_INCLUDES = 50  # files inside files inside files

Role = Literal["requirements", "constraints"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """What one or more requirements files say: canonical PEP 508 lines, sorted, each once."""

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    # Normalized name → sha256 (hex) of the only files that may be chosen.
    hashes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def parse_requirements(
    text: str, *, file: str, read: Callable[[str], str], role: Role = "requirements"
) -> Requirements:
    """Return what a requirements file and the files that it includes say.

    ``read`` gets a path, relative as ``file`` is, and returns a file's text; it may raise ``OSError`` (reported as a
    fault at the ``-r`` line) and ``SpecError`` (its faults join the others). Raises ``SpecError`` with every fault.
    """
    collector = Collector(read=read)
    collector.text(text, file=file, role=role)
    return collector.result()


@dataclass(kw_only=True, slots=True)
class Collector:
    """Collects from several files; a file that is named twice is read once."""

    read: Callable[[str], str]
    faults: list[Fault] = field(default_factory=list)
    _found: dict[Role, dict[str, None]] = field(default_factory=lambda: {"requirements": {}, "constraints": {}})
    _hashes: dict[str, set[str]] = field(default_factory=dict)
    _done: set[tuple[Role, str]] = field(default_factory=set)
    _inside: list[str] = field(default_factory=list)

    def file(self, path: str, *, role: Role, named_by: Fault) -> None:
        """Read a file; ``named_by`` is the place that names it, where a fault belongs if it cannot be read."""
        path = posixpath.normpath(path)
        if (role, path) in self._done:
            return
        try:
            text = self.read(path)
        except OSError as error:
            self._fault_at(named_by, f"{quote(path)} cannot be read: {(error.strerror or str(error)).lower()}")
            return
        except SpecError as error:
            self.faults.extend(error.faults)
            return
        self.text(text, file=path, role=role)

    def text(self, text: str, *, file: str, role: Role) -> None:
        """Read a file's text."""
        file = posixpath.normpath(file)
        self._done.add((role, file))
        self._inside.append(file)
        for entry in read_lines(text):
            match entry:
                case Pinned():
                    self._pinned(entry, file, role)
                case Include():
                    self._include(entry, file, role)
                case Refused():
                    self._fault(entry, file, entry.message, entry.hint)
        self._inside.pop()

    def add(self, requirement: str) -> None:
        """Add a requirement that is canonical already."""
        self._found["requirements"].setdefault(requirement)

    def result(self) -> Requirements:
        """Return what was found; raises ``SpecError`` where anything was wrong."""
        if self.faults:
            order = {file: number for number, file in enumerate(dict.fromkeys(fault.file for fault in self.faults))}
            raise SpecError(sorted(self.faults, key=lambda fault: (order[fault.file], fault.line, fault.column)))
        return Requirements(
            requirements=tuple(sorted(self._found["requirements"])),
            constraints=tuple(sorted(self._found["constraints"])),
            hashes={name: tuple(sorted(hashes)) for name, hashes in sorted(self._hashes.items())},
        )

    def _pinned(self, entry: Pinned, file: str, role: Role) -> None:
        parsed = Requirement(entry.requirement)
        if role == "constraints" and parsed.extras:
            message = f"{quote(entry.requirement)} has extras, which a constraint cannot have"
            self._fault(entry, file, message, "ask for the extras in a requirement, and leave them out here")
            return
        self._found[role].setdefault(entry.requirement)
        if entry.hashes:
            self._hashes.setdefault(parsed.name, set()).update(entry.hashes)

    def _include(self, entry: Include, file: str, role: Role) -> None:
        if role == "constraints" and entry.kind == "requirements":
            self._fault(entry, file, "a constraints file cannot include requirements", "include constraints with -c")
            return
        problem = _path_problem(entry.path)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), entry.path))
        if problem:
            self._fault(entry, file, f"{quote(entry.path)} {problem}", "put the file beside this one and name its path")
        elif path in self._inside:
            chain = " → ".join([*self._inside[self._inside.index(path) :], path])
            self._fault(entry, file, f"files include each other: {chain}", "remove one of the -r or -c lines")
        elif len(self._inside) >= MAX_INCLUDES:
            self._fault(entry, file, f"more than {MAX_INCLUDES} files include each other", "")
        else:
            place = Fault(file=file, line=entry.line, column=entry.column, message="")
            self.file(path, role=entry.kind, named_by=place)

    def _fault(self, entry: Pinned | Include | Refused, file: str, message: str, hint: str) -> None:
        self.faults.append(Fault(file=file, line=entry.line, column=entry.column, message=message, hint=hint))

    def _fault_at(self, place: Fault, message: str) -> None:
        fault = Fault(file=place.file, line=place.line, column=place.column, message=message)
        self.faults.append(fault)


def _path_problem(path: str) -> str:
    if "//" in path or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", path):
        return "is a URL"
    if path.startswith(("/", "~", "\\")) or "\\" in path:
        return "is not a relative path"
    return "is not a path" if "\0" in path or len(path) > 1000 else ""  # noqa: PLR2004
