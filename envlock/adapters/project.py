"""The project on this machine: the files that go into the image, and what git says of them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from envlock.adapters.git import GitFacts, git_facts
from envlock.errors import InputError
from envlock.formats.context import on_disk
from envlock.model.plan import Project, ProjectFile
from envlock.model.spec import ProjectFiles

# Never part of a project: version control, our own files, what Python makes by itself, and what MLflow writes here
# where nothing else is set: with each recorded run it would be another project.
_ALWAYS_IGNORED = (
    *(".git", ".envlock/", "/envlock.lock", "__pycache__/", "*.pyc"),
    *("/mlflow.db", "/mlflow.db-journal", "/mlflow.db-shm", "/mlflow.db-wal", "/mlruns/", "/mlartifacts/"),
)
_CHUNK = 1024 * 1024


def read_project(
    root: Path, selection: ProjectFiles, *, source_date_epoch: int | None, warn: Callable[[str], None]
) -> Project:
    """Return the state of the project in the folder ``root``.

    ``source_date_epoch`` in seconds goes before the commit's time. ``warn`` gets what makes git silent although there
    is a repository. Raises ``InputError`` for a selected file that cannot go into an image.
    """
    files = tuple(_file(root, path) for path in sorted(select(root, selection)))
    facts = git_facts(root, [file.path for file in files], warn=warn) or GitFacts()
    epoch = facts.committed if source_date_epoch is None else source_date_epoch
    return Project(
        files=files,
        revision=facts.revision,
        dirty=facts.dirty,
        version=facts.version,
        source=facts.source,
        epoch=max(epoch, 0),
    )


def select(root: Path, selection: ProjectFiles) -> Iterator[str]:
    """Yield the paths, relative to ``root``, that the patterns (gitignore(5)) include and do not ignore.

    Links to files and folders of the project count as what they point to; one that leaves the project is refused.
    """
    if not selection.include:
        return
    from pathspec import GitIgnoreSpec  # noqa: PLC0415 - many images have no project in them, and importing it is slow

    always = GitIgnoreSpec.from_lines(_ALWAYS_IGNORED)
    include = GitIgnoreSpec.from_lines(selection.include)
    ignore = GitIgnoreSpec.from_lines(selection.ignore)
    top = root.resolve()

    def ignored(path: str) -> bool:
        return always.match_file(path) or ignore.match_file(path)

    def walk(folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[str]:
        for entry in _scan(folder):
            path = prefix + os.fsencode(entry.name).decode(errors="surrogateescape")  # UTF-8 in every locale
            if _is_folder(entry):
                place = Path(entry.path).resolve()
                if ignored(path + "/") or place in above:
                    continue
                if place.is_relative_to(top):
                    yield from walk(Path(entry.path), path + "/", (*above, place))
                elif include.match_file(path + "/"):
                    raise _leaves(path)
            elif not ignored(path) and include.match_file(path):
                _check(Path(entry.path), path, top)
                yield path

    yield from walk(root, "", (top,))


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}", hint="or put it in project.ignore") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle lead to no folder
        return False


def _check(place: Path, path: str, top: Path) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"the project has a file whose name is not UTF-8: {path!r}", hint="rename it") from None
    try:
        target = place.resolve(strict=True)
        regular = stat.S_ISREG(target.stat().st_mode)
    except (OSError, RuntimeError):
        raise InputError(
            f"{path} is a link to a file that is not there", hint="remove it, or put it in project.ignore"
        ) from None
    if not target.is_relative_to(top):
        raise _leaves(path)
    if not regular:
        raise InputError(f"{path} is not a regular file", hint="put it in project.ignore")


def _leaves(path: str) -> InputError:
    return InputError(
        f"{path} is a link to something outside the project, which would be another thing on another machine",
        hint="copy what it points to into the project, or put the link in project.ignore",
    )


def _file(root: Path, path: str) -> ProjectFile:
    digest, size = hashlib.sha256(), 0
    try:
        with (root / on_disk(path)).open("rb") as stream:
            executable = bool(os.fstat(stream.fileno()).st_mode & stat.S_IXUSR)
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint="or put it in project.ignore") from error
    return ProjectFile(path=path, executable=executable, size=size, sha256=digest.hexdigest())
