"""Files of stacked layers, laid over each other in memory and then put on this machine's disk, below one folder.

Contents go into a flat folder first, under names of our own; what a layer calls them decides nothing on this machine
until all layers are read. Then files get their places in folders that were made for them, and links come last: so
nothing is ever written through a link. A link never leads out of the folder: none goes up further than to its top.
Nothing but folders, files and links comes into being; owners and set-id bits do not.

Whiteouts and what replaces what: OCI image spec, layers; as engines do it, links in a path are followed.
"""

from __future__ import annotations

import posixpath
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from envlock.errors import WorldError
from envlock.layers.store import storage

_HIDDEN, _OPAQUE = ".wh.", ".wh..wh..opq"
_LINKS = 40  # as the kernel has it


@dataclass(frozen=True, slots=True)
class _File:
    layer: int
    spooled: Path
    executable: bool


@dataclass(frozen=True, slots=True)
class _Link:
    layer: int
    target: str


class Overlay:
    """The files that are ``wanted`` (path without links in its folders, is it a link); ``spool`` is an empty folder."""

    def __init__(self, spool: Path, *, wanted: Callable[..., bool]) -> None:
        self._spool = spool
        self._wanted = wanted
        self._nodes: dict[str, _File | _Link] = {}
        self._below: Counter[str] = Counter()  # folder → how many nodes are in it, at any depth
        self._layer = 0
        self._count = 0

    def add(self, layer: IO[bytes]) -> None:
        """Lay a layer's tar (plain, gzip) over the others.

        Raises ``WorldError`` for paths that lead out of the image, ``StorageError``, and what reading raises.
        """
        self._layer += 1
        with tarfile.open(fileobj=layer, mode="r|*") as archive:
            for member in archive:
                self._member(archive, member)

    def write(self, folder: Path) -> None:
        """Put everything below an empty folder; raises ``StorageError``. The spool holds nothing of use afterwards."""
        placed: dict[Path, Path] = {}
        with storage(folder):
            for path, node in self._nodes.items():
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(node, _File):
                    if node.spooled in placed:
                        shutil.copyfile(placed[node.spooled], place)  # a hard link in the image
                    else:
                        node.spooled.rename(place)
                        placed[node.spooled] = place
                    place.chmod(0o755 if node.executable else 0o644)
            for path, node in self._nodes.items():
                if isinstance(node, _Link):
                    (folder / path).symlink_to(_inner(path, node.target))

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        folder, name = posixpath.split(_clean(member.name))
        if not name:
            return
        folder = self._real(folder)
        path = posixpath.join(folder, name)
        if name == _OPAQUE:
            self._forget(folder, itself=False, below_layer=self._layer)
        elif name.startswith(_HIDDEN):
            self._forget(posixpath.join(folder, name.removeprefix(_HIDDEN)), below_layer=self._layer)
        elif member.isdir():
            self._drop(path)
        else:
            self._forget(path)
            self._add(archive, member, path)

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        if not self._wanted(path, link=member.issym()):
            return
        if "\0" in member.linkname:
            raise WorldError(f"a layer of the base has a link to nowhere: /{path}")
        if member.issym():
            node: _File | _Link | None = _Link(self._layer, member.linkname)
        elif member.islnk():
            folder, name = posixpath.split(_clean(member.linkname))
            node = self._nodes.get(posixpath.join(self._real(folder), name))
        else:
            content = archive.extractfile(member)  # None for devices and the like
            node = _File(self._layer, self._spooled(content), bool(member.mode & 0o111)) if content else None
        if node is not None:
            for above in _above(path):
                self._drop(above)
            self._nodes[path] = node
            self._below.update(_above(path))

    def _spooled(self, content: IO[bytes]) -> Path:
        self._count += 1
        path = self._spool / str(self._count)
        with storage(self._spool):
            file = path.open("xb")
        with file:
            while block := content.read(1 << 20):
                with storage(self._spool):
                    file.write(block)
        return path

    def _forget(self, path: str, *, itself: bool = True, below_layer: int | None = None) -> None:
        """Take away what is at a path and in it; only what other layers have where ``below_layer`` is given."""
        inside = path + "/" if path else ""
        known = [known for known in self._nodes if known.startswith(inside)] if self._below[path] or not path else []
        for gone in [*known, path] if itself else known:
            if below_layer is None or (gone in self._nodes and self._nodes[gone].layer < below_layer):
                self._drop(gone)

    def _drop(self, path: str) -> None:
        if self._nodes.pop(path, None) is not None:
            self._below.subtract(_above(path))

    def _real(self, path: str) -> str:
        """Return a path with all links in it followed."""
        done: list[str] = []
        left = [part for part in path.split("/") if part]
        hops = 0
        while left:
            part = left.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            node = self._nodes.get("/".join([*done, part]))
            if not isinstance(node, _Link):
                done.append(part)
                continue
            hops += 1
            if hops > _LINKS:
                raise WorldError(f"the base image's links lead in a circle: /{path}")
            if node.target.startswith("/"):
                done = []
            left = [piece for piece in node.target.split("/") if piece not in ("", ".")] + left
        return "/".join(done)


def _clean(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise WorldError(f"a layer of the base has a path that leads out of it: {name!r}")
    return "/".join(parts)


def _above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _inner(path: str, target: str) -> str:
    """Return a link's target relative to the folder that the link is in, never above the root file system's top.

    The folder is a real one, so going up from it goes where it says.
    """
    folder = "/" + posixpath.dirname(path)
    # An absolute path's ".." ends at "/", as in a root file system of its own.
    return posixpath.relpath(posixpath.normpath(posixpath.join(folder, target)), folder)
