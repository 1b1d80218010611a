"""The layers that are so small that they are made from the plan at once: user and envlock's own files, the project."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from envlock.errors import InputError
from envlock.formats import oci
from envlock.formats.base_files import BaseFiles, accounts
from envlock.formats.context import ContextFile, chunks, on_disk
from envlock.formats.small_tar import Entry, tar
from envlock.model.plan import METADATA, MetadataLayer, Plan, ProjectLayer

_WHITEOUT = ".wh."  # OCI image spec, layers
_FORMAT = 1  # of the small layers, in their keys: a change of their bytes is a new number


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallLayer:
    """A layer that is made from the plan alone; ``blocks`` gives its tar, from the start at each call."""

    key: str  # hex, as ``StoredLayer.key``
    title: str
    blocks: Callable[[], Iterator[bytes]]


def small_layers(plan: Plan, *, project: Path | None, files: BaseFiles) -> list[SmallLayer]:
    """Return the layers with the user and envlock's own files, and with the project's, as far as the plan has them.

    ``files`` says what is below them (base and system packages); ``project`` is the project's folder, and None leaves
    its layer out. Raises ``LockError`` where the user's name is taken; reading the project's files raises
    ``StorageError`` where they are not what they were.
    """
    made = []
    for layer in plan.layers:
        if isinstance(layer, MetadataLayer):
            # One layer: each one above a changed package costs an engine as much as a small package.
            entries = [*_user_entries(plan, files), *_own_entries(layer)]
            title = f"user {plan.config.user}, {plan.config.workdir}, the environment's own lock and requirements"
            made.append(_small(title, files.with_folders(entries)))
        elif isinstance(layer, ProjectLayer) and project is not None:
            entries = _project_entries(plan, layer, project, files)
            made.append(_small(_project_title(plan, layer), files.with_folders(entries)))
    return made


def _own_entries(layer: MetadataLayer) -> Iterator[Entry]:
    for name, content in layer.files.items():
        yield Entry(path=f"{METADATA}/{name}".lstrip("/"), content=content, size=len(content))


def _user_entries(plan: Plan, files: BaseFiles) -> Iterator[Entry]:
    """Yield the user, the home and the working directory; nothing for root with a folder that is there."""
    config = plan.config
    if config.uid:
        home = f"home/{config.user}"
        changed = accounts(files.passwd, files.group, user=config.user, uid=config.uid)
        if changed is not None:
            passwd, group = changed
            yield Entry(path="etc/passwd", content=passwd, size=len(passwd))
            yield Entry(path="etc/group", content=group, size=len(group))
            yield Entry(path=home, folder=True, uid=config.uid)
    workdir = config.workdir.strip("/")
    found = files.find(workdir)
    if workdir and (config.uid or found is None):
        yield Entry(path=workdir, folder=True, uid=config.uid, mode=found.mode if found else None)


def _project_entries(plan: Plan, layer: ProjectLayer, project: Path, files: BaseFiles) -> list[Entry]:
    top, uid = plan.config.workdir.strip("/"), plan.config.uid
    folders = {parent for file in layer.files for parent in _parents(file.path)}
    found = files.find(top) if top else None
    # The layer below has made it the user's; root leaves what is there as it is.
    mine = [Entry(path=top, folder=True, uid=uid, mode=found.mode if found else None)] if top else []
    return [
        *mine,
        *(Entry(path=f"{top}/{folder}".lstrip("/"), folder=True, uid=uid) for folder in sorted(folders)),
        *(
            Entry(
                path=f"{top}/{file.path}".lstrip("/"),
                content=_reader(project / on_disk(file.path), file.path, file.size, file.sha256),
                size=file.size,
                mode=0o755 if file.executable else 0o644,
                uid=uid,
                sha256=file.sha256,
            )
            for file in layer.files
        ),
    ]


def _reader(place: Path, path: str, size: int, sha256: str) -> Callable[[], Iterator[bytes]]:
    return lambda: chunks(ContextFile(path=path, content=place, size=size, sha256=sha256))


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _project_title(plan: Plan, layer: ProjectLayer) -> str:
    count = f"{len(layer.files)} files" if len(layer.files) != 1 else "1 file"
    return f"{count} of the project in {plan.config.workdir}"


def _small(title: str, entries: Sequence[Entry]) -> SmallLayer:
    """Key a layer by all that its tar is made from; a large file counts by its hash."""
    lines = [entry.identity() for entry in entries]
    for entry in entries:
        if any(part.startswith(_WHITEOUT) for part in entry.path.split("/")):
            raise InputError(
                f"/{entry.path}: in an image layer, a name that begins with {_WHITEOUT!r} removes other files",
                hint="leave the file out (project.ignore), or call it something else",
            )
    key = hashlib.sha256(oci.canonical([_FORMAT, title, lines])).hexdigest()
    return SmallLayer(key=key, title=title, blocks=lambda: tar(entries))
