"""Files that several wheels own: which of them stays.

pip installs one wheel after another, and a later one's file replaces an earlier one's. With all packages pinned and
``--no-deps``, its resolver's order (``get_installation_order``) is: those that say nothing of Python's version first,
then the others, each in reverse order of their names. So the last of all is the first by name.
Layers leave out what would be replaced: then their order does not matter, and no file is in the image twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from envlock.errors import InputError
from envlock.layers.scheme import parents


class Files(NamedTuple):
    """What one package installs."""

    paths: Sequence[str]  # compiled files aside
    requires_python: bool  # its metadata has Requires-Python (core metadata)


def shadowed(packages: Mapping[str, Files]) -> dict[str, frozenset[str]]:
    """Return for each package the paths that another package's file replaces; packages without such are left out.

    ``packages``: normalized name → files. Raises ``InputError`` where one package's file is another one's folder.
    """
    owner: dict[str, str] = {}
    lost: dict[str, set[str]] = {}
    for name in reversed(installation_order(packages)):
        for path in packages[name].paths:
            if owner.setdefault(path, name) != name:
                lost.setdefault(name, set()).add(path)
    _check_folders(owner)
    return {name: frozenset(paths) for name, paths in lost.items()}


def installation_order(packages: Mapping[str, Files]) -> list[str]:
    """Return the names in the order in which pip installs them."""
    return sorted(packages, key=lambda name: (not packages[name].requires_python, name), reverse=True)


def is_files(note: Any) -> bool:
    """Return whether a note is what ``Files`` is kept as."""
    return (
        isinstance(note, list) and len(note) == len(Files._fields) and _is_paths(note[0]) and isinstance(note[1], bool)
    )


def is_shadows(note: Any, names: Collection[str]) -> bool:
    """Return whether a note is what ``shadowed`` is kept as, for these packages."""
    return isinstance(note, dict) and note.keys() <= set(names) and all(_is_paths(paths) for paths in note.values())


def _is_paths(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(path, str) for path in value)


def _check_folders(owner: Mapping[str, str]) -> None:
    folders: set[str] = set()
    for folder in {path.rpartition("/")[0] for path in owner}:
        folders.update((folder, *parents(folder)))
    clashes = sorted(folders & owner.keys())
    if clashes:
        below = next(path for path in sorted(owner) if path.startswith(f"{clashes[0]}/"))
        raise InputError(
            f"{owner[clashes[0]]} and {owner[below]} cannot be installed together: /{clashes[0]} is a file of the one"
            " and a folder of the other",
            hint="do without one of them",
        )
