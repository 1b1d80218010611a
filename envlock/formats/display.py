"""Values of strangers on our terminal."""

from __future__ import annotations

import re

LONGEST = 60  # characters; versions never get there, paths do
_ANY = 1_000_000
_CONTEXT = 12  # characters before the first difference
_HEX = re.compile(r"(?P<kind>sha256:)?(?P<digits>[0-9a-f]{40}|[0-9a-f]{64})")


def short(value: str) -> str:
    """Return a digest or a commit as people read it, by its first 12 digits; anything else as it is."""
    found = _HEX.fullmatch(value)
    return f"{found['kind'] or ''}{found['digits'][:12]}…" if found else value


def two_lines(before: str, after: str, *, longest: int = LONGEST) -> tuple[str, str]:
    """Return two values side by side; where they are too long, from the place where they begin to differ."""
    pair = (one_line(short(before), longest=_ANY), one_line(short(after), longest=_ANY))
    if max(map(len, pair)) <= longest:
        return pair
    same = next((place for place, (one, other) in enumerate(zip(*pair, strict=False)) if one != other), longest)
    start = max(0, same - _CONTEXT) if same > longest - _CONTEXT else 0
    first, second = (("…" if start else "") + value[start:] for value in pair)
    return one_line(first, longest=longest), one_line(second, longest=longest)


def one_line(value: str, *, longest: int = LONGEST) -> str:
    """Return a value on one line, without control characters (a label may hold any), cut if it is long."""
    line = "".join(character if character.isprintable() else " " for character in value)
    return line if len(line) <= longest else line[: longest - 1] + "…"
