"""A file that is hashed while it is written."""

from __future__ import annotations

import hashlib
from typing import BinaryIO


class Hashed:
    """Writes through to a file; ``diff_id`` (OCI image spec, DiffID) and ``size`` (bytes) say what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def diff_id(self) -> str:
        """Return "sha256:<hex>" of what was written so far."""
        return f"sha256:{self._digest.hexdigest()}"

    def write(self, block: bytes) -> None:
        """Write a block."""
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)
