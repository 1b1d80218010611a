"""This machine's store of files by content: ``sha256/ab/<64 hex>``, fetched in parallel, checked before each use."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path

from envlock.errors import HashMismatch, StorageError
from envlock.layers.claims import claimed, gate, sweep, touch
from envlock.model.kept import Kept
from envlock.ports import Progress, Task, Wanted

_DOWNLOADS = 8  # at a time: enough to hide each server's latency, few enough for any server's patience
_PARTIAL = ".partial-"
_BLOCK = 1024 * 1024  # bytes read at a time while hashing


_NAME = re.compile(r"[0-9a-f]{64}")


class ArtifactStore:
    """Implements ``ports.Artifacts`` in a folder that any number of processes share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def fetch(self, wanted: Sequence[Wanted], *, progress: Progress) -> dict[str, Path]:
        """Have all files here; return sha256 → path. See ``ports.Artifacts``."""
        unique = {item.sha256: item for item in wanted}
        have = self._have(list(unique.values()), progress)
        missing = [item for item in unique.values() if item.sha256 not in have]
        return have | (self._fetch_all(missing, progress) if missing else {})

    def add(self, content: Iterable[bytes]) -> tuple[str, int, Path]:
        """Keep a file made here; return its sha256, size and path."""
        with self._partial() as (file, keep):
            digest, size = hashlib.sha256(), 0
            for block in content:
                digest.update(block)
                size += len(block)
                file(block)
            path = self._path(digest.hexdigest())
            keep(path)
        return digest.hexdigest(), size, path

    def has(self, sha256: str) -> Path | None:
        """Return the path of a stored file after checking its hash; a file that was changed on disk is removed."""
        path = self._path(sha256)
        try:
            self._touch(path)
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _storage_error(path, error) from error
        if found != sha256:
            with suppress(FileNotFoundError):
                path.unlink()
            return None
        return path

    def kept(self) -> Iterator[Kept]:
        """Yield every stored file. See ``cache.Keeper`` for this and the next two."""
        for path in sorted(self._root.glob("sha256/??/*")):
            with suppress(FileNotFoundError):
                status = path.stat()
                if _NAME.fullmatch(path.name) and path.is_file():
                    yield Kept(kind="artifact", key=path.name, size=status.st_size, used=status.st_mtime)

    def remove(self, item: Kept, *, since: float) -> bool:
        """Remove a file that nobody wanted after a time, and say whether it is gone."""
        path = self._path(item.key)
        try:
            with gate(self._root, alone=True):
                if path.stat().st_mtime > since:
                    return False
                path.unlink()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise _storage_error(path, error) from error
        return True

    def tidy(self) -> None:
        """Remove what processes that were killed left unfinished."""
        self._sweep()

    def _touch(self, path: Path) -> None:
        """Note that a file is wanted; raises ``FileNotFoundError``."""
        with gate(self._root):
            touch(path)

    def _have(self, wanted: Sequence[Wanted], progress: Progress) -> dict[str, Path]:
        """Return those of the files that are here, unchanged. hashlib lets other threads run: all cores are used."""
        total = sum(item.size or 0 for item in wanted if self._path(item.sha256).exists())
        found: dict[str, Path] = {}
        with (
            progress.task("Checking files", total=total, unit="B") as task,
            ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        ):
            for item, path in zip(wanted, pool.map(lambda item: self.has(item.sha256), wanted), strict=True):
                if path is not None:
                    found[item.sha256] = path
                    task.advance(item.size or 0)
        return found

    def _fetch_all(self, missing: Sequence[Wanted], progress: Progress) -> dict[str, Path]:
        self._sweep()
        sizes = [item.size for item in missing]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        stop = threading.Event()
        with (
            progress.task(f"Fetching {len(missing)} files", total=total, unit="B") as task,
            ThreadPoolExecutor(_DOWNLOADS) as pool,
        ):
            # largest first, so that one big file does not start when all others are done
            ordered = sorted(missing, key=lambda item: -(item.size or 0))
            downloads = {pool.submit(self._fetch_one, item, task, stop): item for item in ordered}
            try:
                wait(downloads, return_when=FIRST_EXCEPTION)
            finally:
                # after a failure or Ctrl-C the others end at their next block, and leave nothing
                if any(done.done() and done.exception() for done in downloads) or not all(d.done() for d in downloads):
                    stop.set()
                    pool.shutdown(wait=True, cancel_futures=True)
            failed = [
                done.exception() for done in downloads if done.done() and not done.cancelled() and done.exception()
            ]
            for error in failed:
                if error is not None and not isinstance(error, _Stopped):
                    raise error
            return {item.sha256: done.result() for done, item in downloads.items()}

    def _fetch_one(self, item: Wanted, task: Task, stop: threading.Event) -> Path:
        path = self._path(item.sha256)
        with item.open() as content, self._partial() as (write, keep):
            task.note(item.title)
            digest, size = hashlib.sha256(), 0
            for block in content:
                if stop.is_set():
                    raise _Stopped
                digest.update(block)
                size += len(block)
                if item.size is not None and size > item.size:
                    raise _mismatch(item, f"more than its {item.size} bytes")
                write(block)
                task.advance(len(block))
            if digest.hexdigest() != item.sha256:
                raise _mismatch(item, f"sha256 {digest.hexdigest()}, {size} bytes")
            keep(path)
        return path

    def _path(self, sha256: str) -> Path:
        return self._root / "sha256" / sha256[:2] / sha256

    @contextmanager
    def _partial(self) -> Iterator[tuple[Callable[[bytes], object], Callable[[Path], None]]]:
        """Give a writer of a temporary file and a function that gives it its name; without the latter it is gone."""
        temporary = self._root / f"{_PARTIAL}{secrets.token_hex(8)}"
        try:
            with claimed(temporary) as file:

                def keep(path: Path) -> None:
                    file.flush()
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with gate(self._root):
                        temporary.replace(path)

                yield file.write, keep
        except OSError as error:
            raise _storage_error(self._root, error) from error

    def _sweep(self) -> None:
        """Remove what processes that were killed left unfinished."""
        sweep(self._root, f"{_PARTIAL}*")


class _Stopped(Exception):  # only ever seen inside this module
    """Another download failed, or the user interrupted."""


def _mismatch(item: Wanted, found: str) -> HashMismatch:
    return HashMismatch(
        f"{item.title}: the file that was served is not the one in the lock",
        details=(f"expected sha256 {item.sha256}, {item.size} bytes", f"found {found}"),
        hint="somebody replaced the file or a proxy altered it: find out which before you lock again",
    )


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot use {path}: {error.strerror or error}",
        hint="free some space there, or put the cache elsewhere with ENVLOCK_CACHE_DIR; nothing partial was kept",
    )
