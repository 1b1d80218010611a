"""The layer store: tars by content key, in a folder that any number of processes share.

::

    layers/ab/<key>.tar, .json     whole layers
    parts/ab/<key>.tar, .json      the entries of one small wheel, from which shared layers are put together
    notes/ab/<key>.json            what is known of wheels: which files they install
    making/                        under construction

A ``.json`` says what the tar is, and how the file system saw it when it was hashed last. A tar that was touched since
is hashed again before use, and dropped where it is not what it was. Whoever reads a tar hashes it, too; what a
``.json`` says is held against the hash in its first line.

A store may have a *remote*, which is asked for what is missing before it is made.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from envlock.errors import StorageError
from envlock.formats.oci_archive import damaged
from envlock.layers.claims import claimed, gate, sweep, touch
from envlock.layers.remote import CarefulRemote
from envlock.model.layers import OfferedLayer, StoredLayer


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
    def making(self, key: str, *, waiting: Callable[[], object] = lambda: None) -> Iterator[Making]:
        """Make a tar; waits for another process that makes the same one, and calls ``waiting`` meanwhile.

        Raises ``StorageError`` (disk full).
        """
        place = self._making / f"{self._folder.name}-{key}"
        with storage(self._folder), claimed(place, waiting=waiting) as file:
            yield Making(self, key, file, self.find(key))

    def keep(self, layer: StoredLayer, file: BinaryIO, index: Any) -> None:
        """Move a finished file to its place. The tar comes first: a ``.json`` always has one."""
        path = self.path(layer.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        file.flush()
        with gate(self._making.parent):
            (self._making / f"{self._folder.name}-{layer.key}").rename(path)
            self._describe(layer, index)

    def drop(self, key: str) -> None:
        """Forget a tar: it turned out not to be what it should be, or it is old."""
        for path in (self._json(key), self.path(key)):
            with suppress(FileNotFoundError):
                path.unlink()

    def drop_unused(self, key: str, *, since: float) -> bool:
        """Drop a tar that was not wanted after a time (seconds since the epoch), and say whether it is gone now."""
        with storage(self._folder), gate(self._making.parent, alone=True), suppress(FileNotFoundError):
            if self._json(key).stat().st_mtime > since:
                return False
            self.drop(key)
        return True

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
            found = read_json(self._json(key))
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
                with gate(self._making.parent):
                    touch(self._json(key))
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
    """The whole store; ``remote`` has layers that others made, and is asked by ``find_or_bring`` and its like alone."""

    def __init__(self, root: Path, *, remote: CarefulRemote | None = None) -> None:
        self.remote = remote
        self._root = root
        self._making = root / "making"
        self._notes = root / "notes"
        self.layers = Shelf(root / "layers", self._making)
        self.parts = Shelf(root / "parts", self._making)

    def find(self, key: str) -> StoredLayer | None:
        """Return a layer by what it is made from; raises ``StorageError``."""
        return self.layers.find(key)

    def find_or_bring(self, key: str) -> StoredLayer | None:
        """Return a layer that is here or comes from the remote, None where it must be made; raises ``StorageError``."""
        found = self.find(key)
        if found is None and self.remote is not None:
            offered = self.remote.find(key)
            found = self.bring(offered) if offered is not None else None
        return found

    def bring(self, offered: OfferedLayer, *, stopped: Callable[[], bool] = lambda: False) -> StoredLayer | None:
        """Bring a layer from the remote; None where it does not come, or is not what it should be.

        Raises ``StorageError``. Gives up where ``stopped`` says so.
        """
        layer = offered.layer
        with self.layers.making(layer.key) as making:
            if making.found or self.remote is None or not self.remote.copy(offered, making.file, stopped):
                return making.found
            return making.keep(diff_id=layer.diff_id, size=layer.size, title=layer.title)

    def open(self, layer: StoredLayer) -> BinaryIO:
        """Open a layer's tar. ``find`` checked it; a reader that hashes it can ``drop`` what is wrong after all.

        Raises ``DamagedLayer`` where somebody removed it meanwhile.
        """
        with storage(self._notes):
            try:
                return self.layers.path(layer.key).open("rb")
            except FileNotFoundError as error:
                raise damaged(layer, "nothing") from error

    def drop(self, key: str) -> None:
        """Forget a layer that is not what it should be."""
        self.layers.drop(key)

    def recall(self, key: str, well_formed: Callable[[Any], bool] = lambda _: True) -> Any:
        """Return a note (JSON), or None where there is none that is well-formed."""
        path = self._note(key)
        with storage(path):
            try:
                with gate(self._root):
                    touch(path)
                note = read_json(path)
            except (FileNotFoundError, ValueError):
                return None
            return note if well_formed(note) else None

    def mark_wanted(self, keys: Iterable[str]) -> None:
        """Note that notes are wanted, without reading them. Raises ``StorageError``."""
        with storage(self._notes), gate(self._root):
            for key in keys:
                with suppress(FileNotFoundError):
                    touch(self._note(key))

    def recall_or_bring(self, key: str, well_formed: Callable[[Any], bool]) -> Any:
        """Return a note that is here, or that the remote has, or None."""
        note = self.recall(key, well_formed)
        if note is None and self.remote is not None:
            note = self.remote.note(key, well_formed)
            if note is not None:
                self.remember(key, note)
        return note

    def remember(self, key: str, note: Any) -> None:
        """Keep a note; notes are small, and can be made again."""
        with storage(self._notes):
            write_json(self._note(key), self._making, note)

    def forget(self, key: str) -> None:
        """Forget a note."""
        with suppress(FileNotFoundError):
            self._note(key).unlink()

    def forget_unused(self, key: str, *, since: float) -> bool:
        """Forget a note that was not wanted after a time, and say whether it is gone now."""
        path = self._note(key)
        with storage(path), suppress(FileNotFoundError), gate(self._root, alone=True):
            if path.stat().st_mtime > since:
                return False
            path.unlink()
        return True

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
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise StorageError(
            f"{error.filename or place}: {error.strerror or error}",
            hint="free some space there: 'envlock cache prune' helps"
            if full
            else "is the folder yours to write? ENVLOCK_CACHE_DIR puts the cache elsewhere",
        ) from error


def read_json(path: Path) -> Any:
    """Return what ``write_json`` wrote; raises ``ValueError`` where it is anything else."""
    digest, _, content = path.read_bytes().partition(b"\n")
    if digest != _hash(content):
        raise ValueError(path)
    return json.loads(content)


def write_json(path: Path, making: Path, value: Any) -> None:
    """Write a file at once and whole, with the hash of the rest in its first line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = making / f"{path.parent.parent.name}-{path.name}"
    content = json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with claimed(temporary) as file:
        file.write(_hash(content) + b"\n" + content)
        file.flush()
        temporary.rename(path)


def _layer(key: str, found: dict[str, Any]) -> StoredLayer:
    return StoredLayer(key=key, diff_id=found["diff_id"], size=found["size"], title=found["title"])


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _seen(path: Path) -> list[int]:
    """Return what changes when somebody writes to a file or replaces it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
