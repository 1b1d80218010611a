"""What an installation of system packages changed, made into the same bytes whenever and wherever it was done.

What differs between two installations of the same packages (measured: hundreds of packages, engines of two
generations), and what is done about it:

==========================================  ==============================================================
logs, caches, backups of dpkg's and passwd  left out (``_LEFT_OUT``); placeholders without content stay
fontconfig's caches                         left out: they hold the times of folders
times                                       none later than ``epoch``, when the newest package was made; also
                                            those that Python's compiled files and Java's key store hold.
                                            Folders all get it: theirs only say when something was put there
the machine's ID                            made from ``seed``
owners                                      numbers only: names come from the engine's machine
extended attributes                         none but ``security.capability``
==========================================  ==============================================================

Not made the same: keys and certificates that a package's script makes by chance (openssh-server, ssl-cert).
The layer store and registries keep the layer that was made first.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from envlock.errors import BuildFailed
from envlock.formats.layer_tar import CAPABILITY, END, Member, header, padding
from envlock.layers.java_keystore import dated
from envlock.layers.streamed_tar import entries

_LEFT_OUT = re.compile(
    r"""
      (?:tmp|var/tmp)/.*
    | var/cache/apt/(?:src)?pkgcache\.bin | var/cache/apt/archives/.* | var/lib/apt/lists/.*
    | var/cache/ldconfig/aux-cache
    | var/cache/debconf/[^/]*-old | var/lib/dpkg/[^/]*-old
    | var/cache/fontconfig/.* | var/cache/man/.*
    | var/lib/systemd/random-seed
    | etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-
    | run/.*
    """,
    re.VERBOSE | re.DOTALL,
)
_LOG = re.compile(r"var/log/.*", re.DOTALL)
_MACHINE_ID = ("etc/machine-id", "var/lib/dbus/machine-id")
_COMPILED = re.compile(r".*/__pycache__/[^/]*\.pyc", re.DOTALL)
_KEY_STORE = "etc/ssl/certs/java/cacerts"

_WHITEOUT = ".wh."
_LARGEST_REWRITTEN = 64 << 20  # bytes; a key store has 200 KiB
_CHUNK = 1 << 20
_PYC_HEADER = 16  # bytes: magic, flags, time of the source, its size (PEP 552)
_LINKS = {tarfile.LNKTYPE, tarfile.SYMTYPE}
_TYPES = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, *_LINKS}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What takes the place of chance."""

    epoch: int  # seconds
    seed: str  # 32 hex digits


def normalise(source: IO[bytes], write: Callable[[bytes], object], rules: Rules) -> None:
    """Read a layer's tar, sorted by path, and write the normalised one; doing it again changes nothing.

    Nothing but single small files is held in memory. Raises ``BuildFailed`` for an entry that no layer may have: a
    device or socket, a path that is absolute, leads outside or is not in order, a link to a file that is not there.
    """
    try:
        _normalise(source, write, rules)
    except tarfile.TarError as error:
        raise BuildFailed(f"the system layer that the engine handed out is damaged: {error}") from error
    write(END)


def _normalise(source: IO[bytes], write: Callable[[bytes], object], rules: Rules) -> None:
    written: set[str] = set()  # regular files, which hard links may name
    last = ""
    for entry, content in entries(source):
        path = _checked(entry, last)
        last = path
        if _left_out(path, entry):
            continue
        if entry.islnk():
            if entry.linkname not in written:
                raise BuildFailed(
                    f"the system layer's {path!r} is a hard link to {entry.linkname!r}: it has no such file"
                )
        elif entry.isreg():
            written.add(path)
        _write(path, entry, content, write, rules)


def _checked(entry: tarfile.TarInfo, last: str) -> str:
    path = entry.name.removeprefix("./").rstrip("/")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path + entry.linkname:
        raise BuildFailed(f"the system layer has an entry that leads outside: {entry.name!r}")
    if entry.type not in _TYPES:
        raise BuildFailed(f"the system layer has a device or something unknown in it: {path!r}")
    if _order(path) <= _order(last):
        raise BuildFailed(f"the system layer is not in order: {path!r} comes after {last!r}")
    return path


def _order(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _left_out(path: str, entry: tarfile.TarInfo) -> bool:
    if entry.isdir() or path.rpartition("/")[2].startswith(_WHITEOUT):
        return path.startswith(("tmp/", "var/tmp/"))
    if _LOG.fullmatch(path):
        return entry.size > 0 or entry.islnk()
    return _LEFT_OUT.fullmatch(path) is not None


def _write(
    path: str, entry: tarfile.TarInfo, content: IO[bytes] | None, write: Callable[[bytes], object], rules: Rules
) -> None:
    whiteout = path.rpartition("/")[2].startswith(_WHITEOUT)
    blocks, size = _content(path, entry, content, rules)
    capability = entry.pax_headers.get(CAPABILITY, "")
    write(
        header(
            Member(
                path=path,
                type=tarfile.REGTYPE if entry.isreg() else entry.type,
                mode=0o644 if whiteout else entry.mode & 0o7777,
                uid=0 if whiteout else entry.uid,
                gid=0 if whiteout else entry.gid,
                mtime=rules.epoch if whiteout or entry.isdir() else _clamped(entry.mtime, rules),
                size=size,
                target=entry.linkname if entry.type in _LINKS else "",
                capability=capability.encode("utf-8", "surrogateescape"),
            )
        )
    )
    for block in blocks:
        write(block)
    write(padding(size))


def _clamped(seconds: float, rules: Rules) -> int:
    return max(0, min(int(seconds), rules.epoch))


# --- files that are written anew --------------------------------------------------------------------------------------


def _content(path: str, entry: tarfile.TarInfo, content: IO[bytes] | None, rules: Rules) -> tuple[Iterator[bytes], int]:
    if content is None:
        return iter(()), 0
    rewritten: bytes | None = None
    if path in _MACHINE_ID:
        rewritten = f"{rules.seed}\n".encode()
    elif path == _KEY_STORE and entry.size <= _LARGEST_REWRITTEN:
        rewritten = dated(content.read(), rules.epoch)
    if rewritten is not None:
        return iter((rewritten,)), len(rewritten)
    if _COMPILED.fullmatch(path) and entry.size >= _PYC_HEADER:
        return _compiled(content, rules), entry.size
    return _chunks(content), entry.size


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while block := content.read(_CHUNK):
        yield block


def _compiled(content: IO[bytes], rules: Rules) -> Iterator[bytes]:
    """Yield a compiled file that names its source's time as the source will have it (PEP 552)."""
    head = content.read(_PYC_HEADER)
    if head[4:8] == bytes(4):  # checked by time
        time = min(int.from_bytes(head[8:12], "little"), rules.epoch)
        head = head[:8] + time.to_bytes(4, "little") + head[12:]
    yield head
    yield from _chunks(content)
