"""What was found to start a spec from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Something that the new spec does not carry, and why."""

    what: str  # one line, without credentials
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a source says; what it does not say is empty."""

    source: str  # for people: "requirements.in"
    name: str | None = None
    python: str | None = None  # major.minor
    python_why: str = ""  # where that comes from, for a comment
    python_full: str | None = None  # major.minor.micro, where it is known
    platform: str | None = None
    cuda: str | None = None
    packages: tuple[str, ...] = ()  # canonical PEP 508 lines
    requirements: tuple[str, ...] = ()  # files, relative to the new spec
    constraints: tuple[str, ...] = ()  # likewise
    indexes: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)  # name → URL, packages bound to it
    find_links: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    assumed: tuple[str, ...] = ()  # packages whose names are only assumed to be the same project on the index


def as_name(text: str | None) -> str | None:
    """Return a text made into a name that a spec may have, or None where nothing of it can be used."""
    words = re.findall(r"[a-z0-9]+", (text or "").lower())
    return "-".join(words)[:100].rstrip("-") or None
