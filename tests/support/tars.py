"""Tars and .debs made entry by entry, also such as nobody should make."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable
from typing import Any

import zstandard

Made = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", **fields: Any) -> Made:
    """Make an entry; ``fields`` are those of ``TarInfo``."""
    made = tarfile.TarInfo(name)
    made.size = len(content)
    for field, value in fields.items():
        setattr(made, field, value)
    return made, content


def folder(name: str, **fields: Any) -> Made:
    return entry(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def link(name: str, target: str, **fields: Any) -> Made:
    return entry(name, type=tarfile.SYMTYPE, linkname=target, **fields)


def hard_link(name: str, target: str, **fields: Any) -> Made:
    return entry(name, type=tarfile.LNKTYPE, linkname=target, **fields)


def tar(*entries: Made, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8") as archive:
        for made, content in entries:
            archive.addfile(made, io.BytesIO(content))
    return buffer.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def ar(members: Iterable[tuple[str, bytes]], *, date: int = 0) -> bytes:
    content = b"!<arch>\n"
    for name, data in members:
        content += f"{name:<16}{date:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data
        content += b"\n" * (len(data) % 2)
    return content


CONTROL = b"Package: pkg\nVersion: 1.0-1\nArchitecture: amd64\n"


def deb(*data: Made, control: bytes = CONTROL, kind: str = ".xz", date: int = 0) -> bytes:
    pack = PACKERS[kind]
    return ar(
        (
            ("debian-binary", b"2.0\n"),
            (f"control.tar{kind}", pack(tar(entry("./control", control)))),
            (f"data.tar{kind}", pack(tar(*data, form=tarfile.GNU_FORMAT))),
        ),
        date=date,
    )
