"""Folders of wheels and sdists on this machine, offered as an index offers its files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from envlock.adapters.simple_pages import project_of
from envlock.errors import InputError
from envlock.ports import IndexFile


def read_folder(folder: Path, *, source: str) -> dict[str, list[IndexFile]]:
    """Return normalized name → files. Hashes are not computed: a folder may hold gigabytes that nobody asks for.

    Raises ``InputError`` where there is no such folder.
    """
    found: dict[str, list[IndexFile]] = defaultdict(list)
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        for path in paths:
            name = project_of(path.name)
            if name is not None:
                found[name].append(index_file(path, source=source))
    except OSError as error:
        raise InputError(
            f"the find-links folder {source} ({folder}) cannot be read: {(error.strerror or str(error)).lower()}",
            hint="its path in the spec is relative to the spec",
        ) from error
    return dict(found)


def index_file(path: Path, *, source: str) -> IndexFile:
    """Return what is known of a file without reading it."""
    return IndexFile(
        source=source,
        filename=path.name,
        url=path.absolute().as_uri(),
        sha256=None,
        size=path.stat().st_size,
        requires_python=None,
        yanked=False,
        uploaded=None,
        metadata_sha256=None,
    )
