"""Sizes and times as people write and read them."""

from __future__ import annotations

import re
from decimal import Decimal

from envlock.errors import UsageError

_NUMBER = r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,3})?)"
_SIZE = re.compile(_NUMBER + r"(?P<unit>B|[kKMGT]i?B)")
_DURATION = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[smhdw])")
_POWERS = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_NAMES = {"w": "week", "d": "day", "h": "hour", "m": "minute"}
_THOUSAND = 1000


def parse_size(text: str) -> int:
    """Return bytes of "20GB", "1.5TB" (powers of 1000) or "512MiB" (of 1024); raises ``UsageError``."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise UsageError(f"{text!r} is not a size", hint="write a number and its unit, like 20GB, 1.5TB or 512MiB")
    unit = found["unit"].removesuffix("B")
    base = 1024 if unit.endswith("i") else _THOUSAND
    return int(Decimal(found["number"]) * base ** _POWERS[unit.removesuffix("i").replace("K", "k")])


def parse_duration(text: str) -> int:
    """Return seconds of "30d", "12h", "8w", "90m" or "45s"; raises ``UsageError``."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise UsageError(
            f"{text!r} is not a duration", hint="write a whole number and its unit: s, m, h, d or w, like 30d or 12h"
        )
    return int(found["number"]) * _SECONDS[found["unit"]]


def size_text(size: int) -> str:
    """Return bytes for people, like "1.2 GB" (powers of 1000)."""
    if size < _THOUSAND:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= _THOUSAND
        if round(amount, 1) < _THOUSAND:
            return f"{amount:.1f} {unit}"
    return f"{amount / _THOUSAND:.1f} TB"


def ago_text(seconds: float) -> str:
    """Return how long ago something was, like "3 days ago"."""
    for unit, name in _NAMES.items():
        count = int(seconds // _SECONDS[unit])
        if count > 0:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
