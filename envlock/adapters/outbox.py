"""Records that wait for MLflow, as files.

One JSON file per record, named by its key: 20 digits of nanoseconds since the epoch, so that names sort by age, then a
random part, so that no two records ever share a key. A file is written under another name, flushed to the disk and
renamed; it is never changed, only removed. Whoever delivers a record holds a lock (flock(2)) on its file, which the
system lets go of when the process ends, whatever way it ends.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from envlock.errors import StorageError
from envlock.formats.structure import StructureError, from_plain, to_plain
from envlock.formats.urls import without_credentials
from envlock.model.record import Destination, Record

_FORMAT = 1
_KEY = re.compile(r"[0-9]{20}-[0-9a-f]{32}")


class FileOutbox:
    """Implements ``ports.Outbox`` in a folder that only this user can read.

    ``warn`` is told of a file that cannot be read: it stays where it is, and the others are delivered all the same.
    """

    def __init__(self, folder: Path, *, warn: Callable[[str], None] = lambda _: None) -> None:
        self._folder = folder
        self._warn = warn

    def put(self, record: Record, destination: Destination) -> str:
        """Keep a record; it is on the disk when this returns. A password in the tracking URI is left out."""
        key = f"{time.time_ns():020d}-{uuid.uuid4().hex}"
        content = _dump(record, destination)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._file(key), content)
        except OSError as error:
            raise StorageError(
                f"{self._folder}: the record cannot be kept: {error.strerror or error}",
                hint="make room or make the folder writable, then record again with 'envlock record'",
            ) from error
        return key

    def pending(self) -> Sequence[tuple[str, Record, Destination]]:
        """Return what waits, oldest first."""
        return [(key, *content) for key in self._keys() if (content := self._read(key)) is not None]

    @contextmanager
    def claim(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a record's file; gives False where it is gone or, without ``wait``, held by another process."""
        try:
            file = self._file(key).open("rb")
        except FileNotFoundError:
            yield False
            return
        except OSError as error:
            raise StorageError(f"{self._file(key)}: {error.strerror or error}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            # who held it before us may have delivered and removed it while we waited
            yield self._file(key).exists()

    def done(self, key: str) -> None:
        """Remove a record's file."""
        try:
            self._file(key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self._file(key)}: cannot be removed: {error.strerror or error}") from error

    def place(self, key: str) -> str:
        """Return the path of a record's file."""
        return str(self._file(key))

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _keys(self) -> list[str]:
        try:
            return sorted(file.stem for file in self._folder.glob("*.json") if _KEY.fullmatch(file.stem))
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot be read: {error.strerror or error}") from error

    def _read(self, key: str) -> tuple[Record, Destination] | None:
        try:
            return _load(self._file(key).read_bytes())
        except FileNotFoundError:
            return None  # delivered by another process since we listed it
        except (OSError, ValueError, RecursionError) as error:
            self._warn(f"{self._file(key)}: a waiting record cannot be read and is left where it is: {error}")
            return None


def _write(file: Path, content: bytes) -> None:
    """Write a file that is either there, whole and on the disk, or not there."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".new-")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        Path(temporary).rename(file)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _dump(record: Record, destination: Destination) -> bytes:
    plain = to_plain(destination)
    if destination.tracking_uri is not None:
        plain["tracking_uri"] = without_credentials(destination.tracking_uri)
    document = {
        "format": _FORMAT,
        "destination": plain,
        "tags": dict(record.tags),
        "params": dict(record.params),
        "artifacts": {path: base64.b64encode(content).decode() for path, content in record.artifacts.items()},
    }
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _load(content: bytes) -> tuple[Record, Destination]:
    """Read a record's file; raises ``ValueError``."""
    document = json.loads(content)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise StructureError("not a record of this envlock's format")
    texts = {name: _texts(document, name) for name in ("tags", "params", "artifacts")}
    try:
        artifacts = {path: base64.b64decode(text, validate=True) for path, text in texts["artifacts"].items()}
    except binascii.Error as error:
        raise StructureError(f"an artifact is damaged: {error}") from error
    record = Record(tags=texts["tags"], params=texts["params"], artifacts=artifacts)
    return record, from_plain(Destination, document.get("destination"), path="destination")


def _texts(document: dict[str, Any], name: str) -> dict[str, str]:
    value = document.get(name)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise StructureError(f"member {name!r} is missing or not made of strings")
    return value
