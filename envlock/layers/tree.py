"""File systems as tables: what a tar of one says, and what layers make of it when they are laid over each other."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Literal, NamedTuple

from envlock.errors import WorldError
from envlock.layers.streamed_tar import entries
from envlock.model.plan import METADATA

Kind = Literal["file", "folder", "link", "device"]

_KINDS: Mapping[bytes, Kind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
}
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"  # OCI image spec, layers
_CHUNK = 1 << 20
_CAPABILITY = "SCHILY.xattr.security.capability"

# Small files that say which package owns what; and the lock that an image carries.
DPKG_STATUS = "var/lib/dpkg/status"
LOCK = f"{METADATA.strip('/')}/envlock.lock"
_TELLING = re.compile(r"(?:.*/)?[^/]+\.dist-info/RECORD|var/lib/dpkg/info/[^/]+\.list", re.DOTALL)
_LARGEST_TELLING = 64 << 20  # bytes


class Node(NamedTuple):
    """One file, folder or link; times are not in it."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int = 0
    content: bytes = b""  # sha256 of a file's bytes, and of its capabilities where it has any
    target: str = ""  # of a symbolic link


@dataclass
class Tree:
    """A file system, or one layer of it."""

    nodes: dict[str, Node] = field(default_factory=dict)  # path without the leading "/" →
    gone: set[str] = field(default_factory=set)  # what a layer removes from those below
    emptied: set[str] = field(default_factory=set)  # folders of which it hides all that is below
    telling: dict[str, bytes] = field(default_factory=dict)  # path → content

    def cover(self, layer: Tree) -> None:
        """Lay a layer over this file system."""
        hidden = layer.gone | {path for path, node in layer.nodes.items() if self._replaced(path, node)}
        if hidden or layer.emptied:
            for path in [path for path in self.nodes if _is_hidden(path, hidden, layer.emptied)]:
                del self.nodes[path]
                self.telling.pop(path, None)
        for path, node in layer.nodes.items():
            self.nodes[path] = node
            self.telling.pop(path, None)
        self.telling.update(layer.telling)

    def _replaced(self, path: str, node: Node) -> bool:
        old = self.nodes.get(path)
        return old is not None and old.kind == "folder" != node.kind


def _is_hidden(path: str, hidden: set[str], emptied: set[str]) -> bool:
    if path in hidden:
        return True
    while "/" in path:
        path = path.rpartition("/")[0]
        if path in hidden or path in emptied:
            return True
    return False


def read_tree(tar: IO[bytes], *, layer: bool) -> Tree:
    """Read a tar of a file system or, with whiteouts, of a layer; no file is held in memory. Raises ``WorldError``."""
    tree = Tree()
    try:
        for entry, content in entries(tar):
            path = _path(entry.name)
            name = path.rpartition("/")[2]
            if not path:
                continue
            if layer and name == _OPAQUE:
                tree.emptied.add(path.rpartition("/")[0])
            elif layer and name.startswith(_WHITEOUT):
                tree.gone.add(path.removesuffix(name) + name.removeprefix(_WHITEOUT))
            else:
                tree.nodes[path] = _node(path, entry, content, tree)
    except tarfile.TarError as error:
        raise WorldError(f"the tar of a file system is damaged: {error}") from error
    return tree


def _path(name: str) -> str:
    path = name.removeprefix("./").strip("/")
    return "" if path == "." else path


def _node(path: str, entry: tarfile.TarInfo, content: IO[bytes] | None, tree: Tree) -> Node:
    mode = entry.mode & 0o7777
    if entry.islnk():
        return tree.nodes.get(_path(entry.linkname), Node("device", mode, entry.uid, entry.gid))
    kind = _KINDS.get(entry.type, "device")
    if kind == "link":
        return Node(kind, 0o777, entry.uid, entry.gid, target=entry.linkname)
    if content is None:
        return Node(kind, mode, entry.uid, entry.gid)
    keep = (path in (DPKG_STATUS, LOCK) or _TELLING.fullmatch(path)) and entry.size <= _LARGEST_TELLING
    digest = hashlib.sha256()
    blocks: list[bytes] = []
    while block := content.read(_CHUNK):
        digest.update(block)
        if keep:
            blocks.append(block)
    if keep:
        tree.telling[path] = b"".join(blocks)
    found = digest.digest()
    if _CAPABILITY in entry.pax_headers:
        found += entry.pax_headers[_CAPABILITY].encode("utf-8", "surrogateescape")
    return Node(kind, mode, entry.uid, entry.gid, size=entry.size, content=found)
