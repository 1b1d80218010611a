"""Tars of a few files, the same bytes each time: no names, one time, one order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from envlock.formats.layer_tar import END, EPOCH, Member, header, padding


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A folder or a regular file; ``content`` is bytes, or a function that yields exactly ``size`` of them."""

    path: str  # relative to the image's root, "/"-separated
    folder: bool = False
    content: bytes | Callable[[], Iterator[bytes]] = b""
    size: int = 0
    mode: int | None = None  # 0755 for folders, 0644 for files
    uid: int = 0
    gid: int | None = None  # as uid
    sha256: str | None = None  # hex, of a content that is a function

    @property
    def permissions(self) -> int:
        """Return the mode, or the usual one."""
        if self.mode is not None:
            return self.mode
        return 0o755 if self.folder else 0o644

    @property
    def group(self) -> int:
        """Return the group's number."""
        return self.uid if self.gid is None else self.gid

    def identity(self) -> list[object]:
        """Return all that the tar of this entry depends on, as JSON has it."""
        sha256 = hashlib.sha256(self.content).hexdigest() if isinstance(self.content, bytes) else self.sha256
        return [self.path, self.folder, self.size, self.permissions, self.uid, self.group, sha256]


def tar(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield a tar, sorted so that folders come before what is in them. Raises what reading a content raises."""
    for entry in sorted(entries, key=lambda entry: entry.path.split("/")):
        yield header(
            Member(
                path=entry.path,
                type=b"5" if entry.folder else b"0",
                mode=entry.permissions,
                uid=entry.uid,
                gid=entry.group,
                mtime=EPOCH,
                size=entry.size,
            )
        )
        yield from [entry.content] if isinstance(entry.content, bytes) else entry.content()
        yield padding(entry.size)
    yield END
