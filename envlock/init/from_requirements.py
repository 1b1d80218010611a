"""A start from a requirements file: named by the new spec where envlock takes every line of it, else taken apart."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envlock.errors import SpecError
from envlock.formats import places
from envlock.formats.requirement_lines import Include, Pinned, Refused, read_lines
from envlock.formats.requirements import parse_requirements
from envlock.formats.spec_reader import problem_of
from envlock.formats.text import quote
from envlock.init.found import Found, LeftOut

_MAX_FILES = 50


def from_requirements(text: str, *, file: str, read: Callable[[str], str]) -> Found:
    """Return what a requirements file says; ``file`` is its path relative to the new spec, ``read`` as there."""
    try:
        parse_requirements(text, file=file, read=read)
    except SpecError:
        parts = Parts(read=read)
        parts.take(text, file=file)
        return parts.found(file)
    if problem_of(places.RELATIVE_PATH, file):
        parts = Parts(read=read)
        parts.take(text, file=file)
        return parts.found(file)
    return Found(source=file, requirements=(file,))


@dataclass(kw_only=True, slots=True)
class Parts:
    """The lines of requirements files, each put where a spec has a place for it."""

    read: Callable[[str], str]
    packages: dict[str, None] = field(default_factory=dict)
    constraints: dict[str, None] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    urls: dict[str, None] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def take(self, text: str, *, file: str) -> None:
        """Take every line of a file, and of the files that it includes."""
        self._seen.add(posixpath.normpath(file))
        for entry in read_lines(text):
            match entry:
                case Pinned():
                    self.packages.setdefault(entry.requirement)
                case Include():
                    self._include(entry, file)
                case Refused():
                    self._refused(entry, file)

    def found(self, source: str) -> Found:
        """Return what was taken."""
        return Found(
            source=source,
            packages=tuple(self.packages),
            constraints=tuple(self.constraints),
            indexes=self.indexes(),
            find_links=self.folders,
            left_out=tuple(self.left_out),
        )

    def indexes(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return the extra indexes; the packages with a local version (``+cu118``) are bound to the only one."""
        local = _with_local_version(self.packages) if len(self.urls) == 1 else ()
        return {f"extra-{number}" if number > 1 else "extra": (url, local) for number, url in enumerate(self.urls, 1)}

    def _include(self, entry: Include, file: str) -> None:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), entry.path))
        if path in self._seen or len(self._seen) > _MAX_FILES:
            return
        if problem_of(places.RELATIVE_PATH, path):
            self.left_out.append(LeftOut(what=quote(path)[1:-1], why="not a path relative to the spec"))
            return
        if entry.kind == "constraints":
            self.constraints.setdefault(path)
            return
        try:
            self.take(self.read(path), file=path)
        except (OSError, SpecError) as error:
            why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not UTF-8, or too large"
            self.left_out.append(LeftOut(what=f"-r {path}", why=why))

    def _refused(self, entry: Refused, file: str) -> None:
        what = quote(entry.text)[1:-1]
        if entry.option == "--extra-index-url" and (url := _without_credentials(entry.value)):
            self.urls.setdefault(url)
            if url != entry.value:
                why = "its credentials are not for a spec: they come from netrc, a keyring or pip's own configuration"
                self.left_out.append(LeftOut(what=f"--extra-index-url {url}", why=why))
            return
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), entry.value))
        if entry.option == "-f" and "://" not in entry.value and not problem_of(places.RELATIVE_PATH, path):
            self.folders[f"folder-{len(self.folders) + 1}" if self.folders else "folder"] = path
            return
        self.left_out.append(LeftOut(what=what, why=entry.hint or entry.message))


def _with_local_version(packages: Iterable[str]) -> tuple[str, ...]:
    requirements = map(Requirement, packages)
    return tuple(
        canonicalize_name(requirement.name)
        for requirement in requirements
        if any("+" in specifier.version for specifier in requirement.specifier)
    )


def _without_credentials(url: str) -> str:
    """Return a URL without userinfo, query and fragment; empty where nothing usable is left."""
    try:
        parts = urlsplit(url)
        bare = urlunsplit((parts.scheme, re.sub(r"^.*@", "", parts.netloc), parts.path, "", ""))
    except ValueError:
        return ""
    return "" if problem_of(places.INDEX_URL, bare) else bare
