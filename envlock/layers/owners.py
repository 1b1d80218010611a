"""Which package a file belongs to, as the file system itself says it: wheels' RECORD files and dpkg's lists."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Mapping

from envlock.formats.debian import DebianFormatError, installed_packages
from envlock.layers.tree import DPKG_STATUS

_RECORD = re.compile(r"(?P<site>.*/)?(?P<name>[^/]+?)-(?P<version>[^/-]+)\.dist-info/RECORD", re.DOTALL)
_DPKG_LIST = re.compile(r"var/lib/dpkg/info/(?P<name>[^/:]+)(?::[^/]+)?\.list")
_COMPILED = re.compile(r"(?P<folder>.*/)?__pycache__/(?P<name>[^/.]+)\.[^/]*\.pyc", re.DOTALL)
# Folders that are links into /usr since the merge (Debian, UsrMerge); packages may name either.
_MERGED = re.compile(r"(?:bin|sbin|lib(?:32|64|x32)?)/")


class Owners:
    """Answers which package has a file."""

    def __init__(self, telling: Mapping[str, bytes]) -> None:
        self._owners: dict[str, str] = {}
        versions = _versions(telling.get(DPKG_STATUS, b""))
        for path, content in telling.items():
            if found := _DPKG_LIST.fullmatch(path):
                name = found["name"]
                self._own(f"{name} {versions[name]}" if name in versions else name, _listed(content))
            elif found := _RECORD.fullmatch(path):
                owner = f"{found['name'].replace('_', '-').lower()} {found['version']}"
                self._own(owner, _recorded(found["site"] or "", content))

    def of(self, path: str) -> str:
        """Return "name version" of the package that has a file, or ""."""
        owner = self._owners.get(path) or (self._owners.get(path.removeprefix("usr/")) if _merged(path) else None)
        if owner is None and (compiled := _COMPILED.fullmatch(path)):
            return self.of(f"{compiled['folder'] or ''}{compiled['name']}.py")
        return owner or ""

    def _own(self, owner: str, paths: list[str]) -> None:
        for path in paths:
            self._owners.setdefault(path, owner)


def _merged(path: str) -> bool:
    return path.startswith("usr/") and _MERGED.match(path, 4) is not None


def _versions(status: bytes) -> dict[str, str]:
    try:
        return {package.name: package.version for package in installed_packages(status.decode("utf-8", "replace"))}
    except DebianFormatError:
        return {}  # the file itself will be a finding


def _listed(content: bytes) -> list[str]:
    return [line.lstrip("/") for line in content.decode("utf-8", "surrogateescape").split("\n") if line.strip("/.")]


def _recorded(site: str, content: bytes) -> list[str]:
    """Return the paths in a RECORD (PyPA, recording installed projects), which are relative to site-packages."""
    lines = content.decode("utf-8", "surrogateescape").splitlines()
    try:
        paths = [row[0] for row in csv.reader(lines) if row and row[0]]
    except csv.Error:
        return []
    return [path.lstrip("/") if path.startswith("/") else posixpath.normpath(site + path) for path in paths]
