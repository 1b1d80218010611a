"""Files that several wheels own: which of them stays.

pip installs one wheel after another, and a later one's file replaces an earlier one's. With all packages pinned and
``--no-deps``, its resolver's order (``get_installation_order``) is: those that say nothing of Python's version first,
then the others, each in reverse order of their names. So the last of all is the first by name.
Layers leave out what would be replaced: then their order does not matter, and no file is in the image twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from envlock.errors import InputError
from envlock.layers.scheme import parents
from envlock.layers.target import Target


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


def tops(paths: Iterable[str], target: Target) -> list[str]:
    """Return few paths such that each of a package's files is one of them, or is below one.

    They are the first names below site-packages, and the first two elsewhere in the virtual environment ("bin/demo").
    Two packages of which no top is another one's top, nor above or below it, have no file and no folder in common that
    could clash: so few lists of files have to be compared, however many packages there are.
    """
    venv = target.venv.lstrip("/")
    site = target.site_packages.lstrip("/")
    found = set()
    for path in paths:
        for folder, names in ((site, 1), (venv, 2)):
            if path.startswith(f"{folder}/"):
                below = path.removeprefix(f"{folder}/").split("/", names)[:names]
                found.add("/".join([folder, *below]))
                break
        else:
            found.add(path.partition("/")[0])
    return sorted(found)


def touching(packages: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the packages that have a top in common with another one, or one above or below another one's.

    ``packages``: name → ``tops``.
    """
    owners: dict[str, list[str]] = {}
    for name, paths in packages.items():
        for path in paths:
            owners.setdefault(path, []).append(name)
    found = {name for names in owners.values() if len(names) > 1 for name in names}
    for path, names in owners.items():
        for folder in parents(path):
            if folder in owners and owners[folder] != names:
                found.update(names, owners[folder])
    return found


def installation_order(packages: Mapping[str, Files]) -> list[str]:
    """Return the names in the order in which pip installs them."""
    return sorted(packages, key=lambda name: (not packages[name].requires_python, name), reverse=True)


def is_files(note: Any) -> bool:
    """Return whether a note is what ``Files`` is kept as."""
    return (
        isinstance(note, list) and len(note) == len(Files._fields) and _is_paths(note[0]) and isinstance(note[1], bool)
    )


def is_tops(note: Any) -> bool:
    """Return whether a note is what ``tops`` is kept as."""
    return _is_paths(note)


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
