"""What a package's core metadata asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_STATIC = (2, 2)  # since this version of core metadata, what is not said to be dynamic holds for every build (PEP 643)


@dataclass(frozen=True, kw_only=True, slots=True)
class CoreMetadata:
    """The part that resolution depends on."""

    name: str  # normalized
    version: str
    requires: tuple[Requirement, ...]
    broken: tuple[str, ...]  # Requires-Dist lines that are not PEP 508
    requires_python: str | None

    def wanted(self, markers: Mapping[str, str], extras: Iterable[str] = ()) -> list[Requirement]:
        """Return what a target with these markers has to have for the package and some of its extras."""
        asked = ["", *extras]
        return [
            one
            for one in self.requires
            if one.marker is None or any(one.marker.evaluate({**markers, "extra": extra}) for extra in asked)
        ]


def read_core_metadata(content: bytes) -> CoreMetadata:
    """Read METADATA or PKG-INFO."""
    raw, _ = parse_email(content)
    requires, broken = [], []
    for line in raw.get("requires_dist", []):
        try:
            requires.append(Requirement(line))
        except InvalidRequirement:
            broken.append(line)
    return CoreMetadata(
        name=canonicalize_name(raw.get("name", "")),
        version=raw.get("version", ""),
        requires=tuple(requires),
        broken=tuple(broken),
        requires_python=raw.get("requires_python"),
    )


def is_static(content: bytes) -> bool:
    """Return whether an sdist's PKG-INFO says for sure what the wheel built from it will require."""
    raw: RawMetadata
    raw, _ = parse_email(content)
    major, _, minor = raw.get("metadata_version", "1.0").partition(".")
    if not (major.isdecimal() and minor.isdecimal()) or (int(major), int(minor)) < _STATIC:
        return False
    dynamic = {field.lower() for field in raw.get("dynamic", [])}
    return not dynamic & {"requires-dist", "requires-python", "provides-extra"}
