"""What this machine keeps because it may be needed again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One thing that can be had again, and may be removed."""

    kind: str  # "layer", "part", "note", "artifact", or the name of its folder
    key: str  # its name, unique within its kind
    title: str = ""
    size: int  # bytes
    used: float  # when it was wanted last, seconds since the epoch
