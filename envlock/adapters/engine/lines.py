"""A program's output: kept whole, and told line by line."""

from __future__ import annotations

import re
from collections.abc import Callable

_END = re.compile(rb"\r\n|\n|\r")


class Lines:
    """Collects bytes; ``on_line`` gets each line (also a progress bar's, ended by a carriage return) at its end."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._blocks: list[bytes] = []
        self._rest = b""

    @property
    def content(self) -> bytes:
        """Return everything so far."""
        return b"".join(self._blocks)

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._blocks.append(data)
        if self._on_line is None:
            return
        *whole, self._rest = _END.split(self._rest + data)
        for line in whole:
            self._tell(line)

    def finish(self) -> None:
        """Tell the last line where it has no end."""
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def _tell(self, line: bytes) -> None:
        if self._on_line is not None and line:
            self._on_line(line.decode(errors="replace"))
