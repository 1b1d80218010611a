"""What a .deb may contain, checked before dpkg gets to see it.

A package's scripts run as root in a container that has no network and is thrown away, so what matters is that the
files end up where their names say: dpkg itself unpacks a package that writes through its own links, or whose names hide
one another, without a word. What Debian policy §10 has packages do (absolute symbolic links, set-id programs) is fine.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import IO

from envlock.errors import AptError
from envlock.formats.debian import DebianFormatError, paragraphs
from envlock.layers.deb_archive import UNPACKING_ERRORS, DebFormatError, members, unpacked
from envlock.layers.streamed_tar import entries
from envlock.model.lock import Deb
from envlock.model.plan import METADATA, VENV

_LARGEST_CONTROL = 64 << 20  # bytes, unpacked
_LARGEST_FIELDS = 1 << 20  # bytes of the control file itself
_MOST_ENTRIES = 1_000_000
_LONGEST_PATH, _LONGEST_NAME = 4095, 255  # bytes, as Linux has it (limits.h)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")

# What is the kernel's or envlock's: nothing of a package may lie there.
_RESERVED = ("dev", "proc", "sys", VENV.strip("/"), METADATA.strip("/"))


def check_debs(debs: Iterable[Deb], files: Mapping[str, Path]) -> int:
    """Check .debs before they are used; return when the newest of them was made, in seconds.

    ``files`` has each by sha256 (hex), already checked against that. Raises ``AptError`` for the first one that is not
    the package that the lock says, or holds what no package may.
    """
    with ThreadPoolExecutor(cpu_count() or 1) as pool:  # unpacking lets other threads run
        return max(pool.map(lambda deb: check_deb(deb, files[deb.sha256]), debs), default=0)


def check_deb(deb: Deb, path: Path) -> int:
    """Check one .deb; return when it was made. Raises ``AptError``."""
    try:
        with path.open("rb") as file:
            version, control, data = members(file)
            with unpacked(file, control, largest=_LARGEST_CONTROL) as tar:
                _check_control(tar, deb)
            with unpacked(file, data) as tar:
                _check_data(tar)
            return version.date
    except DebFormatError as error:
        raise _refused(deb, str(error)) from error
    except (tarfile.TarError, *UNPACKING_ERRORS) as error:
        raise _refused(deb, f"it is damaged: {error or type(error).__name__}") from error


def _refused(deb: Deb, why: str) -> AptError:
    return AptError(
        f"{deb.filename} ({deb.name} {deb.version}, from the repository {deb.source}) is refused: {why}",
        hint="such a package is broken or meant to do harm: tell the repository's operator, and take another version",
    )


# --- who it says it is ------------------------------------------------------------------------------------------------


def _check_control(tar: IO[bytes], deb: Deb) -> None:
    fields: Mapping[str, str] | None = None
    for name, entry, content in _entries(tar):
        if not (entry.isdir() or entry.isreg()) or "/" in name:
            raise DebFormatError(f"its control archive has {name!r}, which is no plain file")
        if name == "control" and content is not None:
            if fields is not None or entry.size > _LARGEST_FIELDS:
                raise DebFormatError("its control file is there twice, or is far too large")
            fields = _fields(content.read())
    if fields is None:
        raise DebFormatError("it has no control file")
    found = fields.get("package"), fields.get("version"), fields.get("architecture")
    if found != (deb.name.partition(":")[0], deb.version, deb.architecture):
        raise DebFormatError("inside it says that it is " + " ".join(repr(value) for value in found))


def _fields(content: bytes) -> Mapping[str, str]:
    try:
        return next(paragraphs(content.decode("utf-8", "replace")), {})
    except DebianFormatError as error:
        raise DebFormatError(f"its control file cannot be read: {error}") from error


# --- what it brings ---------------------------------------------------------------------------------------------------


def _check_data(tar: IO[bytes]) -> None:
    kinds: dict[str, bytes] = {}  # path → type of what was there before in this archive
    for name, entry, _ in _entries(tar):
        _check_place(name, kinds)
        if entry.isdir():
            _check_once(name, kinds, allowed=tarfile.DIRTYPE)
            kinds[name] = tarfile.DIRTYPE
            continue
        _check_once(name, kinds)
        if entry.issym():
            _check_symlink(name, entry.linkname)
        elif entry.islnk():
            target = _name(entry.linkname)
            if kinds.get(target) != tarfile.REGTYPE:
                raise DebFormatError(f"{name!r} is a hard link to {target!r}, which is no file of its own")
        elif not entry.isreg():
            raise DebFormatError(f"{name!r} is a device, a pipe, or of an unknown type")
        kinds[name] = tarfile.SYMTYPE if entry.issym() else tarfile.REGTYPE


def _check_once(name: str, kinds: Mapping[str, bytes], *, allowed: bytes | None = None) -> None:
    if kinds.get(name, allowed) != allowed:
        raise DebFormatError(f"{name!r} is there twice: the second hides the first")


def _check_place(name: str, kinds: Mapping[str, bytes]) -> None:
    for reserved in _RESERVED:
        if name == reserved or name.startswith(f"{reserved}/"):
            raise DebFormatError(f"it would write to /{name}")
    parent = name
    while "/" in parent:
        parent = parent.rpartition("/")[0]
        if kinds.get(parent, tarfile.DIRTYPE) != tarfile.DIRTYPE:
            raise DebFormatError(f"{name!r} would be written through {parent!r}, which is no folder")


def _check_symlink(name: str, target: str) -> None:
    if not target or _CONTROL_CHARACTERS.search(target) or len(target.encode("utf-8", "replace")) > _LONGEST_PATH:
        raise DebFormatError(f"{name!r} is a link to {target[:80]!r}")
    if not target.startswith("/") and posixpath.normpath(posixpath.join(posixpath.dirname(name), target))[:2] == "..":
        raise DebFormatError(f"{name!r} is a link out of the file system: {target!r}")


def _entries(tar: IO[bytes]) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes] | None]]:
    """Yield (path without the leading "./", entry, content), without the top itself.

    What follows the tar's end is read too: dpkg and we have to agree on where that is.
    """
    for count, (entry, content) in enumerate(entries(tar, block=tarfile.BLOCKSIZE)):
        if count == _MOST_ENTRIES:
            raise DebFormatError(f"it has more than {_MOST_ENTRIES:,} entries")
        name = _name(entry.name)
        if name:
            yield name, entry, content
    while block := tar.read(1 << 20):
        if block.strip(b"\0"):
            raise DebFormatError("something comes after the end of its tar")


def _name(raw: str) -> str:
    """Return a path as it will be on disk; raises ``DebFormatError`` for one that says something else than it is."""
    path = raw.removeprefix("./").removesuffix("/")
    if path in ("", "."):
        return ""
    if raw.startswith("/"):
        raise DebFormatError(f"{raw[:200]!r} is an absolute path")
    parts = path.split("/")
    if ".." in parts:
        raise DebFormatError(f"{raw[:200]!r} leads out of the file system")
    if "" in parts or "." in parts or _CONTROL_CHARACTERS.search(path):
        raise DebFormatError(f"{raw[:200]!r} is another path than it looks")
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if max(sizes) > _LONGEST_NAME or sum(sizes) + len(parts) > _LONGEST_PATH:
        raise DebFormatError(f"{raw[:60]!r}… is too long a path")
    if any(part.startswith(".wh.") for part in parts):
        raise DebFormatError(f"{raw[:200]!r} would hide files: image layers have a meaning of their own for '.wh.'")
    return path
