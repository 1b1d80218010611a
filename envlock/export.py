"""``export``: a folder that any builder makes the image from, with no network."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from envlock.errors import InputError, StorageError, UsageError
from envlock.formats.context import ContextFile, chunks, context_files, on_disk
from envlock.formats.dockerfile import HEADER, dockerfile
from envlock.formats.templates import render
from envlock.model.plan import Plan
from envlock.ports import Artifacts, Progress, Wanted

_OURS = frozenset(
    (
        *("Dockerfile", ".dockerignore", "README.md", "envlock.lock", "requirements.txt", "apt.txt"),
        *("apt", "installer", "wheels", "project"),
    )
)


def export(
    plan: Plan,
    folder: Path,
    *,
    wanted: Sequence[Wanted],
    artifacts: Artifacts,
    project: Path,
    force: bool,
    progress: Progress,
) -> None:
    """Write the plan's Dockerfile and everything that it needs into ``folder``, all or nothing.

    ``wanted`` has every file that the plan needs. Raises ``UsageError`` where the folder is in use (with ``force``:
    where it is not an earlier export), ``StorageError``, and what fetching raises.
    """
    _check_free(folder, force=force)
    text = dockerfile(plan)
    found = artifacts.fetch(wanted, progress=progress)
    readme = render("export-README.md.j2", plan=plan, has_debs=bool(plan.lock.debs))
    files = [
        *context_files(plan, dockerfile=text, artifacts=found, project=project),
        _text("README.md", readme),
        _text(".dockerignore", "# All else is needed\nREADME.md\napt.txt\n"),
    ]
    with progress.task(f"Writing {folder}", total=sum(file.size for file in files), unit="B") as task:
        try:
            _replace(folder, files, task.advance)
        except OSError as error:
            raise StorageError(f"{folder} cannot be written: {error.strerror or error}") from error


def _check_free(folder: Path, *, force: bool) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is there and is not a folder", hint="export into another folder")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    if not force:
        raise UsageError(f"{folder} is not empty", hint="export into another folder, or replace it with --force")
    if not names <= _OURS or not _starts_as_ours(folder / "Dockerfile"):
        raise UsageError(
            f"{folder} has files in it that are not an export's, and --force does not remove those",
            hint="export into another folder",
        )


def _starts_as_ours(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(HEADER)) == HEADER.encode()
    except OSError:
        return False


def _replace(folder: Path, files: Iterable[ContextFile], advance: Callable[[int], None]) -> None:
    """Write beside the folder, then put it in the folder's place; an interruption leaves what was there."""
    target = folder.resolve()  # a link to a folder stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for file in files:
            _write(work / "new", file, advance)
        if target.exists():
            target.rename(work / "old")
        try:
            (work / "new").rename(target)
        except BaseException:
            if (work / "old").exists():
                (work / "old").rename(target)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(root: Path, file: ContextFile, advance: Callable[[int], None]) -> None:
    relative = PurePosixPath(file.path)
    if relative.is_absolute() or ".." in relative.parts or "\0" in file.path:
        raise InputError(f"{file.path!r} would be written outside the folder")
    path = root / on_disk(file.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        for chunk in chunks(file):
            stream.write(chunk)
            advance(len(chunk))
    path.chmod(0o755 if file.executable else 0o644)
    os.utime(path, (file.mtime, file.mtime))


def _text(path: str, text: str) -> ContextFile:
    content = text.encode()
    return ContextFile(path=path, content=content, size=len(content))
