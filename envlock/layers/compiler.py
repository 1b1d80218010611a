"""Who compiles Python files for an image: the image's own interpreter, wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Source(NamedTuple):
    """A Python file to compile."""

    path: str  # absolute, in the image: what tracebacks will show
    content: bytes


class Compiler(Protocol):
    """An interpreter of exactly the target's version.

    The result depends on that version and the source alone, not on what was compiled before or beside it.
    """

    def compile(self, sources: Sequence[Source]) -> Sequence[bytes | None]:
        """Return each file's compiled form (PEP 552, unchecked hash), or None where it is no valid Python.

        Blocks; safe to call from several threads at once, which is how all cores come to use. Raises ``WorldError``.
        """
