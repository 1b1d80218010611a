"""What a layer has to know of the files below it: folders, links, and the lists of users and groups.

An engine unpacks a layer by itself: a folder that a tar does not name, and whose content it does, comes into being with
the engine's own idea of a mode, and hides the mode of the one below. So a layer names each folder on the way with
the attributes that it has below, and never a folder where below there is a link (``/lib`` → ``usr/lib``).
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import IO, Any

from envlock.errors import InputError, LockError
from envlock.formats.small_tar import Entry

PASSWD, GROUP = "etc/passwd", "etc/group"
_HIDDEN, _OPAQUE = ".wh.", ".wh..wh..opq"  # OCI image spec, whiteouts
_LINKS = 40  # as the kernel has it


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A folder or link of the base."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    target: str | None = None  # of a link


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseFiles:
    """The folders and links of an image by path (relative to its root), and its accounts."""

    entries: Mapping[str, Found] = field(default_factory=dict)
    passwd: bytes = b""
    group: bytes = b""

    def find(self, path: str) -> Found | None:
        """Return the folder that a path leads to, links followed, or None."""
        found = self.entries.get(self.real(path))
        return found if found is not None and found.target is None else None

    def real(self, path: str) -> str:
        """Return a path with all links in it followed; raises ``InputError`` for links in a circle."""
        done: list[str] = []
        left = [part for part in path.split("/") if part]
        hops = 0
        while left:
            part = left.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            here = self.entries.get("/".join([*done, part]))
            if here is None or here.target is None:
                done.append(part)
                continue
            hops += 1
            if hops > _LINKS:
                raise InputError(f"the base image's links lead in a circle: /{path}")
            if here.target.startswith("/"):
                done = []
            left = [piece for piece in here.target.split("/") if piece not in ("", ".")] + left
        return "/".join(done)

    def with_folders(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return entries at their real paths, with every folder on the way, as the base has it.

        Raises ``InputError`` where links of the base make one file of two.
        """
        wanted: dict[str, Entry] = {}
        for entry in entries:
            path = self.real(entry.path)
            if path in wanted and not (entry.folder and wanted[path].folder):
                raise InputError(
                    f"/{entry.path} and another file would both be written to /{path}: the base links there"
                )
            wanted[path] = replace(entry, path=path)
        for path in list(wanted):
            parent = posixpath.dirname(path)
            while parent and parent not in wanted:
                below = self.entries.get(parent, Found())
                wanted[parent] = Entry(path=parent, folder=True, mode=below.mode, uid=below.uid, gid=below.gid)
                parent = posixpath.dirname(parent)
        return [wanted[path] for path in sorted(wanted)]


def as_json(files: BaseFiles) -> dict[str, Any]:
    """Return what ``from_json`` reads."""
    entries = {path: [it.mode, it.uid, it.gid, it.target] for path, it in sorted(files.entries.items())}
    # Latin-1 gives each byte one character, whatever the accounts are written in.
    return {"entries": entries, "passwd": files.passwd.decode("latin-1"), "group": files.group.decode("latin-1")}


def from_json(data: Mapping[str, Any]) -> BaseFiles:
    """Return what ``as_json`` was given; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
    entries = {
        str(path): Found(mode=int(mode), uid=int(uid), gid=int(gid), target=None if target is None else str(target))
        for path, (mode, uid, gid, target) in data["entries"].items()
    }
    passwd, group = (str(data[name]).encode("latin-1") for name in ("passwd", "group"))
    return BaseFiles(entries=entries, passwd=passwd, group=group)


def read_layers(layers: Iterable[IO[bytes]], *, below: BaseFiles | None = None) -> BaseFiles:
    """Read layers' tars (plain, gzip) from the bottom, over what is ``below``; nothing of them is written anywhere."""
    below = below or BaseFiles()
    entries: dict[str, Found] = dict(below.entries)
    contents = {PASSWD: below.passwd, GROUP: below.group}
    for layer in layers:
        with tarfile.open(fileobj=layer, mode="r|*") as archive:
            fresh: dict[str, Found] = {}
            for member in archive:
                path = "/".join(part for part in member.name.split("/") if part not in ("", "."))
                folder, _, name = path.rpartition("/")
                if name.startswith(_HIDDEN):
                    gone = f"{folder}/" if name == _OPAQUE else f"{folder}/{name.removeprefix(_HIDDEN)}".lstrip("/")
                    _forget(entries, contents, gone)
                elif member.isdir() or member.issym():
                    fresh[path] = Found(
                        mode=member.mode & 0o7777,
                        uid=member.uid,
                        gid=member.gid,
                        target=member.linkname if member.issym() else None,
                    )
                else:
                    fresh.pop(path, None)
                    entries.pop(path, None)
                    if path in contents and member.isreg():
                        content = archive.extractfile(member)
                        contents[path] = content.read() if content else b""
            entries |= fresh
    return BaseFiles(entries=entries, passwd=contents[PASSWD], group=contents[GROUP])


def _forget(entries: dict[str, Found], contents: dict[str, bytes], path: str) -> None:
    """Take away a path and all below it; only what is below it where the path ends with "/"."""
    inside = path.rstrip("/") + "/"
    for known in [known for known in entries if known == path or known.startswith(inside)]:
        del entries[known]
    for known in contents:
        if known == path or known.startswith(inside):
            contents[known] = b""


def accounts(passwd: bytes, group: bytes, *, user: str, uid: int) -> tuple[bytes, bytes] | None:
    """Return passwd(5) and group(5) with a user of this name and number; None where they have it.

    As ``templates/dockerfile/user.j2`` does it: a number that belongs to another name is taken over. Raises
    ``LockError`` where the name belongs to another number.
    """
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if fields[0] == user.encode() and len(fields) > 2:  # noqa: PLR2004 - name, password, number
            if fields[2] == b"%d" % uid:
                return None
            raise LockError(
                f"user {user} is in the base image with another number than {uid}",
                hint="choose another image.user, or the number that it has there",
            )
    number = b"%d" % uid
    others = re.sub(rb"(?m)^[^:\n]*:[^:\n]*:" + number + rb":.*\n?", b"", passwd)
    passwd = _ended(others) + f"{user}:x:{uid}:{uid}::/home/{user}:/bin/sh\n".encode()
    if not re.search(rb"(?m)^[^:\n]*:[^:\n]*:" + number + rb":", group):
        group = _ended(group) + f"{user}:x:{uid}:\n".encode()
    return passwd, group


def _ended(text: bytes) -> bytes:
    return text if not text or text.endswith(b"\n") else text + b"\n"
