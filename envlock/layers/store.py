"""The layer store: tars by content key, in a folder that any number of processes share.

::

    layers/ab/<key>.tar, .json     whole layers
    parts/ab/<key>.tar, .json      the entries of one small wheel, from which shared layers are put together
    notes/ab/<key>.json            what is known of wheels: which files they install
    making/                        under construction

A ``.json`` says what the tar is, and how the file system saw it when it was hashed last. A tar that was touched since
is hashed again before use, and dropped where it is not what it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from envlock.errors import StorageError
from envlock.layers.claims import claimed, sweep
from envlock.model.layers import StoredLayer


class Making:
    """A tar under construction; ``found`` is it where another process was faster."""

    def __init__(self, shelf: Shelf, key: str, file: BinaryIO, found: StoredLayer | None) -> None:
        self._shelf = shelf
        self._key = key
        self.file = file
        self.found = found

    def keep(self, *, diff_id: str, size: int, title: str, index: Any = None) -> StoredLayer:
        """Put the tar on the shelf, at once and whole. ``index`` (JSON) is kept beside it."""
        layer = StoredLayer(key=self._key, diff_id=diff_id, size=size, title=title)
        self._shelf.keep(layer, self.file, index)
        return layer


class Shelf:
    """Tars of one kind."""

    def __init__(self, folder: Path, making: Path) -> None:
        self._folder = folder
        self._making = making

    def find(self, key: str) -> StoredLayer | None:
        """Return what is kept by a key, and remember that it was wanted. Raises ``StorageError``."""
        with storage(self._folder):
            found = self._read(key)
            if found is None or not self._unchanged(key, found):
                return None
            return _layer(key, found)

    def index(self, key: str) -> Any:
        """Return what was kept beside a tar; None where nothing was, or the tar is gone."""
        with storage(self._folder):
            return (self._read(key) or {}).get("index")

    def path(self, key: str) -> Path:
        """Return where a tar is."""
        return self._folder / key[:2] / f"{key}.tar"

    @contextmanager
    def making(self, key: str) -> Iterator[Making]:
        """Make a tar; waits for another process that makes the same one. Raises ``StorageError`` (disk full)."""
        with storage(self._folder), claimed(self._making / f"{self._folder.name}-{key}") as file:
            yield Making(self, key, file, self.find(key))

    def keep(self, layer: StoredLayer, file: BinaryIO, index: Any) -> None:
        """Move a finished file to its place. The tar comes first: a ``.json`` always has one."""
        path = self.path(layer.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        file.flush()
        (self._making / f"{self._folder.name}-{layer.key}").rename(path)
        self._describe(layer, index)

    def drop(self, key: str) -> None:
        """Forget a tar: it turned out not to be what it should be, or it is old."""
        for path in (self._json(key), self.path(key)):
            with suppress(FileNotFoundError):
                path.unlink()

    def kept(self) -> Iterator[tuple[StoredLayer, float]]:
        """Yield everything with the time at which it was wanted last (seconds since the epoch)."""
        for path in sorted(self._folder.glob("??/*.json")):
            with suppress(FileNotFoundError):
                used = path.stat().st_mtime
                found = self._read(path.stem)
                if found is not None:
                    yield _layer(path.stem, found), used

    def undescribed(self) -> Iterator[Path]:
        """Yield tars that nothing is known of."""
        for path in sorted(self._folder.glob("??/*.tar")):
            if not path.with_suffix(".json").exists():
                yield path

    def _json(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads(self._json(key).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            found = None
        if isinstance(found, dict) and {"diff_id", "size", "title", "seen"} <= found.keys():
            return found
        self.drop(key)
        return None

    def _unchanged(self, key: str, found: dict[str, Any]) -> bool:
        path = self.path(key)
        try:
            if found["seen"] == _seen(path):
                os.utime(self._json(key))
                return True
            with path.open("rb") as file:
                diff_id = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except FileNotFoundError:
            diff_id = ""
        if diff_id != found["diff_id"]:
            self.drop(key)
            return False
        self._describe(_layer(key, found), found.get("index"))
        return True

    def _describe(self, layer: StoredLayer, index: Any) -> None:
        path = self.path(layer.key)
        write_json(
            self._json(layer.key),
            self._making,
            {"diff_id": layer.diff_id, "index": index, "seen": _seen(path), "size": layer.size, "title": layer.title},
        )


class LayerStore:
    """The whole store."""

    def __init__(self, root: Path) -> None:
        self._making = root / "making"
        self._notes = root / "notes"
        self.layers = Shelf(root / "layers", self._making)
        self.parts = Shelf(root / "parts", self._making)

    def find(self, key: str) -> StoredLayer | None:
        """Return a layer by what it is made from; raises ``StorageError``."""
        return self.layers.find(key)

    def open(self, layer: StoredLayer) -> BinaryIO:
        """Open a layer's tar. ``find`` checked it; a reader that hashes it can ``drop`` what is wrong after all."""
        with storage(self._notes):
            return self.layers.path(layer.key).open("rb")

    def drop(self, key: str) -> None:
        """Forget a layer that is not what it should be."""
        self.layers.drop(key)

    def recall(self, key: str) -> Any:
        """Return a note (JSON), or None."""
        path = self._note(key)
        with storage(path):
            try:
                note = json.loads(path.read_bytes())
                os.utime(path)
            except (FileNotFoundError, ValueError):
                return None
            return note

    def remember(self, key: str, note: Any) -> None:
        """Keep a note; notes are small, and can be made again."""
        with storage(self._notes):
            write_json(self._note(key), self._making, note)

    def forget(self, key: str) -> None:
        """Forget a note."""
        with suppress(FileNotFoundError):
            self._note(key).unlink()

    def notes(self) -> Iterator[tuple[Path, int, float]]:
        """Yield path, size and time of last use of each note."""
        for path in sorted(self._notes.glob("??/*.json")):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield path, status.st_size, status.st_mtime

    def sweep(self) -> None:
        """Remove what was never finished."""
        sweep(self._making)

    def _note(self, key: str) -> Path:
        return self._notes / key[:2] / f"{key}.json"


@contextmanager
def storage(place: Path) -> Iterator[None]:
    """Raise ``StorageError`` for what the file system refuses."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{error.filename or place}: {error.strerror or error}", hint="is the disk full? try 'envlock cache prune'"
        ) from error


def write_json(path: Path, making: Path, value: Any) -> None:
    """Write a file at once and whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = making / f"{path.parent.parent.name}-{path.name}"
    with claimed(temporary) as file:
        file.write(json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        file.flush()
        temporary.rename(path)


def _layer(key: str, found: dict[str, Any]) -> StoredLayer:
    return StoredLayer(key=key, diff_id=found["diff_id"], size=found["size"], title=found["title"])


def _seen(path: Path) -> list[int]:
    """Return what changes when somebody writes to a file or replaces it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
