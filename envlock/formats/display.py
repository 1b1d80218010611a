"""Values of strangers on our terminal."""

from __future__ import annotations

LONGEST = 72  # characters; versions never get there, digests and paths do


def one_line(value: str, *, longest: int = LONGEST) -> str:
    """Return a value on one line, without control characters (a label may hold any), cut if it is long."""
    line = "".join(character if character.isprintable() else " " for character in value)
    return line if len(line) <= longest else line[: longest - 1] + "…"
