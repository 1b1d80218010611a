"""Folders of the cache whose owners remember small things, each by a hash: anything of them may be gone at any time.

A *thing* is a file ``<64 hex>`` or ``<64 hex>.json``, or a whole folder ``<64 hex>`` (the unpacked files of a base).
Nothing else is ever touched: a cache folder may have been set to a place where somebody keeps other files.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from envlock.errors import StorageError
from envlock.layers.claims import remove_tree
from envlock.model.kept import Kept

_THING = re.compile(r"[0-9a-f]{64}(?:\.json)?")
_REMOVED = ".removed-"
# File systems note that a file was read once a day (mount option relatime), and folders are used file by file.
_A_DAY = 25 * 3600  # seconds


class CacheFolder:
    """Implements ``cache.Keeper`` for one folder; its name is the kind of what is in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def kept(self) -> Iterator[Kept]:
        """Yield every thing, with the time at which it was read or written last, as far as the file system knows."""
        for path in _things(self._folder):
            with suppress(FileNotFoundError):
                size, used = _measured(path)
                yield Kept(kind=self._folder.name, key=str(path.relative_to(self._folder)), size=size, used=used)

    def remove(self, item: Kept, *, since: float) -> bool:
        """Remove a thing that was not used after a time; a folder only where it was not used for a day before that."""
        path = self._folder / item.key
        try:
            _, used = _measured(path)
            if used > (since - _A_DAY if path.is_dir() else since):
                return False
            _remove(path)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StorageError(f"cannot remove {path}: {error.strerror or error}", hint="whose is it?") from error
        return True

    def tidy(self) -> None:
        """Remove what a process that ended did not finish removing."""
        for left in self._folder.glob(f"*/{_REMOVED}*"):
            remove_tree(left)


def _things(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StorageError(f"cannot read {folder}: {error.strerror or error}") from error
    for entry in entries:
        if _THING.fullmatch(entry.name) and not entry.is_symlink():
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _things(Path(entry.path))


def _measured(path: Path) -> tuple[int, float]:
    """Return size and last use of a file, or of all files of a folder. What it is called inside says nothing."""
    status = path.lstat()
    if not path.is_dir():
        return status.st_size, max(status.st_mtime, status.st_atime)
    size, used = 0, status.st_mtime
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                status = os.lstat(Path(folder) / name)
                size += status.st_size
                used = max(used, status.st_atime, status.st_ctime)
    return size, used


def _remove(path: Path) -> None:
    """Remove a thing at once; a folder first gets another name, so that nobody finds half of it."""
    if not path.is_dir():
        path.unlink()
        return
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=_REMOVED))
    path.rename(aside / path.name)
    remove_tree(aside)
