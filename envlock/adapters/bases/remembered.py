"""What was found out about bases: it never changes, so it is found out once.

::

    configs/<64 hex>.json    configurations, by image ID
    files/<64 hex>.json      folders, links and accounts, by the stack of layers; its hash in the first line
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from envlock.errors import HashMismatch
from envlock.formats import oci
from envlock.formats.base_files import BaseFiles, as_json, from_json
from envlock.layers.claims import write_at_once
from envlock.layers.store import storage
from envlock.model.lock import Base

_FORMAT = 1  # of the files: another number whenever the same base would be described in another way


class Remembered:
    """A folder that any number of processes share. What is damaged there is found out again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def config(self, base: Base, find_out: Callable[[], bytes]) -> bytes:
        """Return the base's configuration; raises ``HashMismatch``, ``StorageError`` and what ``find_out`` raises."""
        path = self._folder / "configs" / f"{oci.hex_of(base.image_id)}.json"
        content = _read(path)
        if content is not None and oci.digest_of(content) == base.image_id:
            return content
        content = find_out()
        found = oci.digest_of(content)
        if found != base.image_id:
            raise HashMismatch(
                f"the configuration of {base.reference} is not the lock's: expected {base.image_id}, found {found}"
            )
        _write(path, content)
        return content

    def files(self, base: Base, find_out: Callable[[], BaseFiles]) -> BaseFiles:
        """Return what a base's layers come to; raises ``StorageError`` and what ``find_out`` raises."""
        path = self._files(base)
        digest, _, content = (_read(path) or b"").partition(b"\n")
        if digest and digest == _hash(content):
            return from_json(json.loads(content))
        files = find_out()
        content = json.dumps(as_json(files), separators=(",", ":")).encode()
        _write(path, _hash(content) + b"\n" + content)
        return files

    def _files(self, base: Base) -> Path:
        key = hashlib.sha256(oci.canonical(["envlock base files", _FORMAT, list(base.diff_ids)])).hexdigest()
        return self._folder / "files" / f"{key}.json"


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _read(path: Path) -> bytes | None:
    with storage(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _write(path: Path, content: bytes) -> None:
    with storage(path):
        write_at_once(path, content)
