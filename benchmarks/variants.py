"""A wheel's next version: the same content, a higher version, and one small module more.

What a changed pin is, without asking any index for one: it is new to every cache, and the same bytes each time for the
same number. What is compressed stays as it is, so a large wheel costs no more than its copying.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import re
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from struct import unpack
from typing import IO

from envlock.model.lock import Wheel

SOURCE = "made"  # the find-links folder of variants, as locks call it

_EPOCH = (2020, 1, 1, 0, 0, 0)
_LOCAL_HEADER = 30  # bytes before the name of a file in a zip archive (APPNOTE 4.3.7)
_VERSION = re.compile(rb"^Version:[ \t]*[^\r\n]*[^\s]", re.MULTILINE)
_numbers = itertools.count(int(time.time()))


def variant(wheel: Wheel, path: Path, folder: Path) -> Wheel:
    """Make the next version of a wheel, whose file is given, in a folder."""
    suffix = f"{'.' if '+' in wheel.version else '+'}bench.{next(_numbers)}"
    stem, version, *tags = wheel.filename.split("-")
    target = folder / "-".join([stem, version + suffix, *tags])
    write_variant(path, target, suffix=suffix)
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return replace(
        wheel,
        version=wheel.version + suffix,
        source=SOURCE,
        filename=target.name,
        sha256=sha256,
        size=target.stat().st_size,
        built_from=None,
    )


def write_variant(path: Path, target: Path, *, suffix: str) -> None:
    """Write a wheel again with another version."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        info = next(name.partition("/")[0] for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        before = info.removesuffix(".dist-info")
        renamed = {f"{before}{kind}": f"{before}{suffix}{kind}" for kind in (".dist-info", ".data")}
        replaced = dict(_replaced(old, info, suffix, renamed))
        for entry in old.infolist():
            name = _moved(entry.filename, renamed)
            if name not in replaced:
                _copy(old, new, entry, name)
        for name, content in replaced.items():
            fresh = zipfile.ZipInfo(name, _EPOCH)
            fresh.compress_type, fresh.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            new.writestr(fresh, content)


def _replaced(old: zipfile.ZipFile, info: str, suffix: str, renamed: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    metadata = _VERSION.sub(rb"\g<0>" + suffix.encode(), _read(old, info, "METADATA"), count=1)
    added = {_module(old, info): f"CHANGED = {suffix!r}\n".encode(), f"{renamed[info]}/METADATA": metadata}
    yield from added.items()
    rows = [
        [_moved(row[0], renamed), *row[1:]]
        for row in csv.reader(_read(old, info, "RECORD").decode().splitlines())
        if row
    ]
    rows = [row for row in rows if row[0] not in added]
    rows += [[name, _hash(content), str(len(content))] for name, content in added.items()]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    yield f"{renamed[info]}/RECORD", text.getvalue().encode()


def _read(archive: zipfile.ZipFile, info: str, name: str) -> bytes:
    return archive.read(f"{info}/{name}")


def _module(archive: zipfile.ZipFile, info: str) -> str:
    """Return where the new module goes: beside the package's first one."""
    first = next((n for n in sorted(archive.namelist()) if n.endswith(".py") and not _is_extra(n, info)), "")
    folder, slash, _ = first.rpartition("/")
    stem = re.sub(r"\W", "_", info.partition("-")[0])
    return f"{folder}{slash}_bench_{stem}.py"


def _is_extra(name: str, info: str) -> bool:
    return name.startswith((f"{info}/", info.replace(".dist-info", ".data/")))


def _moved(name: str, renamed: Mapping[str, str]) -> str:
    top, slash, rest = name.partition("/")
    return f"{renamed.get(top, top)}{slash}{rest}"


def _copy(old: zipfile.ZipFile, new: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> None:
    """Copy an entry as it is compressed, under another name."""
    fresh = zipfile.ZipInfo(name, entry.date_time)
    for member in ("compress_type", "external_attr", "create_system", "CRC", "compress_size", "file_size"):
        setattr(fresh, member, getattr(entry, member))
    source, target = _file(old), _file(new)
    source.seek(entry.header_offset)
    lengths = unpack("<HH", source.read(_LOCAL_HEADER)[26:])  # of the name, and of what is extra
    source.seek(sum(lengths), io.SEEK_CUR)
    fresh.header_offset = target.tell()
    target.write(fresh.FileHeader())
    _copy_bytes(source, target, entry.compress_size)
    new.filelist.append(fresh)
    new.NameToInfo[name] = fresh
    new.start_dir = target.tell()


def _copy_bytes(source: IO[bytes], target: IO[bytes], count: int) -> None:
    while count:
        block = source.read(min(count, 1 << 20))
        target.write(block)
        count -= len(block)


def _file(archive: zipfile.ZipFile) -> IO[bytes]:
    assert archive.fp is not None
    return archive.fp


def _hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
