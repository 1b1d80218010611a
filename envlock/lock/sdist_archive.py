"""Reading the two files of an sdist that matter before it is built, in memory: nothing is unpacked on this machine."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from envlock.errors import InputError

_LARGEST = 4 * 1024 * 1024  # bytes of one file
_MOST_MEMBERS = 200_000
_WITHOUT_PYPROJECT = {"requires": ["setuptools>=40.8.0"]}  # PEP 517, "source trees"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sdist:
    """What an sdist says of itself."""

    system: Mapping[str, Any]  # the build-system table (PEP 518); "requires" is always there
    metadata: bytes | None  # PKG-INFO


def read_sdist(path: Path, *, filename: str) -> Sdist:
    """Read a .tar.gz or .zip; raises ``InputError`` where it is neither, or is not made as an sdist should be."""
    try:
        files = _from_zip(path) if filename.endswith(".zip") else _from_tar(path)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise InputError(f"{filename} is not an sdist: {error}") from error
    return Sdist(system=_build_system(files.get("pyproject.toml"), filename), metadata=files.get("PKG-INFO"))


def _from_tar(path: Path) -> dict[str, bytes]:
    files = {}
    with tarfile.open(path, "r:*") as archive:
        for count, member in enumerate(archive):
            _check_member(member.name, count)
            name = _wanted(member.name)
            if (
                name
                and member.isfile()
                and member.size <= _LARGEST
                and (file := archive.extractfile(member)) is not None
            ):
                files[name] = file.read(_LARGEST)
    return files


def _from_zip(path: Path) -> dict[str, bytes]:
    files = {}
    with zipfile.ZipFile(path) as archive:
        for count, member in enumerate(archive.infolist()):
            _check_member(member.filename, count)
            name = _wanted(member.filename)
            if name and member.file_size <= _LARGEST:
                files[name] = archive.read(member)
    return files


def _check_member(name: str, count: int) -> None:
    """Refuse what would leave its folder when it is unpacked: the base's pip may be too old to notice."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError(f"it has a member outside of its folder: {name!r}")
    if count > _MOST_MEMBERS:
        raise ValueError(f"it has more than {_MOST_MEMBERS:,} members")


def _wanted(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    return parts[1] if len(parts) == 2 and parts[1] in ("pyproject.toml", "PKG-INFO") else None  # noqa: PLR2004


def _build_system(pyproject: bytes | None, filename: str) -> dict[str, Any]:
    if pyproject is None:
        return dict(_WITHOUT_PYPROJECT)
    try:
        system = tomllib.loads(pyproject.decode()).get("build-system")
        if system is None:
            return dict(_WITHOUT_PYPROJECT)
        return dict(system) | {"requires": sorted(str(Requirement(line)) for line in system["requires"])}
    except (ValueError, KeyError, TypeError, AttributeError, InvalidRequirement) as error:
        raise InputError(f"{filename} has a pyproject.toml that cannot be used: {error}") from error
