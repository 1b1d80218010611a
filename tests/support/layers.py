"""Wheels on disk, locks of them, and layers read back, for tests of the layers that envlock makes."""

from __future__ import annotations

import hashlib
import io
import marshal
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import parse_wheel_filename

from envlock.layers.archive import WheelArchive
from envlock.layers.compiler import Source
from envlock.layers.make import LayerMaker
from envlock.layers.scheme import plan_installation
from envlock.layers.store import LayerStore
from envlock.layers.tar_writer import TarWriter
from envlock.layers.target import Target
from envlock.layers.wheel_layer import write_wheel
from envlock.model.layers import StoredLayer
from envlock.model.lock import Wheel
from tests.support.packages import Package, save

HERE = "{}.{}.{}".format(*sys.version_info[:3])  # this interpreter's version


class HereCompiler:
    """Compiles in this process: quick, and good enough where bytes do not matter."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def compile(self, sources: Sequence[Source]) -> list[bytes | None]:
        self.paths += [path for path, _ in sources]
        return [self._one(path, content) for path, content in sources]

    def _one(self, path: str, content: bytes) -> bytes | None:
        try:
            code = compile(content, path, "exec", dont_inherit=True, optimize=0)
        except Exception:  # noqa: BLE001 - as the real ones
            return None
        return MAGIC_NUMBER + b"\1\0\0\0" + source_hash(content) + marshal.dumps(code)

    def submit(self, sources: Sequence[Source]) -> Future[Sequence[bytes | None]]:
        future: Future[Sequence[bytes | None]] = Future()
        future.set_result(self.compile(sources))
        return future


def lock_wheel(path: Path, *, requested: bool = True) -> Wheel:
    """Return a wheel as a lock has it."""
    name, version, _, _ = parse_wheel_filename(path.name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Wheel(
        name=name,
        version=str(version),
        source="default",
        filename=path.name,
        sha256=digest,
        size=path.stat().st_size,
        requested=requested,
    )


def saved(packages: Iterable[Package], folder: Path) -> tuple[list[Wheel], dict[str, Path]]:
    """Write wheels into a folder; return them as a lock has them, and sha256 → path."""
    paths = [save(package, folder) for package in packages]
    wheels = [lock_wheel(path) for path in paths]
    return wheels, {wheel.sha256: path for wheel, path in zip(wheels, paths, strict=True)}


def installed(path: Path, target: Target, *, requested: bool = True) -> dict[str, Entry]:
    """Make the entries of one wheel; return path below the environment → entry, with ``content``."""
    wheel = lock_wheel(path, requested=requested)
    buffer = io.BytesIO()
    with WheelArchive(path, title=path.name) as archive:
        plan = plan_installation(archive, wheel, target=target)
        tar = TarWriter(buffer)
        write_wheel(archive, plan, tar, target=target, compile_=HereCompiler().submit, advance=lambda _: None)
        tar.finish()
    return entries(buffer.getvalue(), below=target.venv)


class Entry(NamedTuple):
    """One entry of a tar."""

    kind: str  # "file", "folder", "link"
    mode: int
    content: bytes | None
    target: str


def entries(tar: bytes | Path, *, below: str = "") -> dict[str, Entry]:
    """Read a tar back: path → entry. A path that is there twice fails."""
    found: dict[str, Entry] = {}
    file = tar.open("rb") if isinstance(tar, Path) else io.BytesIO(tar)
    with file, tarfile.open(fileobj=file) as archive:
        for entry in archive:
            name = "/" + entry.name
            if below:
                if not name.startswith(below + "/"):
                    continue
                name = name.removeprefix(below + "/")
            assert name not in found, name
            stream = archive.extractfile(entry) if entry.isreg() else None
            kind = "file" if entry.isreg() else "folder" if entry.isdir() else "link" if entry.issym() else "odd"
            found[name] = Entry(kind, entry.mode, stream.read() if stream else None, entry.linkname)
    return found


def files_of(store: LayerStore, layers: Iterable[StoredLayer], *, below: str) -> dict[str, Entry]:
    """Return all regular files of layers; one that is in two of them fails."""
    found: dict[str, Entry] = {}
    for layer in layers:
        for name, entry in entries(store.layers.path(layer.key), below=below).items():
            if entry.kind == "file":
                assert name not in found, name
                found[name] = entry
    return found


def maker(root: Path, target: Target, *, compiler: Any = None, workers: int = 2) -> tuple[LayerMaker, LayerStore]:
    """Return a maker with a store of its own (or the one that is in the folder already)."""
    store = LayerStore(root)
    return LayerMaker(store, compiler or HereCompiler(), target, workers=workers), store


def raw_wheel(
    folder: Path,
    members: Sequence[tuple[zipfile.ZipInfo | str, bytes]],
    *,
    name: str = "demo",
    method: int = zipfile.ZIP_DEFLATED,
    info: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a wheel whose members are just these, besides a sound .dist-info."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    sound = {
        "WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        "RECORD": b"",
    } | dict(info or {})
    with zipfile.ZipFile(path, "w", method) as archive:
        for member, content in members:
            archive.writestr(member, content)
        for file, content in sound.items():
            archive.writestr(f"{name}-1.0.dist-info/{file}", content)
    return path
