"""What pip itself leaves, and how it differs from layers."""

from __future__ import annotations

import csv
import importlib.util
import io
import marshal
import os
import stat
import subprocess
import sys
import tokenize
import types
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from envlock.layers.store import LayerStore
from envlock.model.layers import StoredLayer
from envlock.model.lock import Wheel
from tests.support.building import pip_bytes
from tests.support.layers import Entry, files_of

# pip cannot load a codec that it has not loaded yet while it installs (it bars imports then), so it leaves files in
# rare encodings without a compiled one. Python itself would compile them; so do we.
LOADED = {"utf-8", "utf-8-sig", "ascii", "iso-8859-1", "latin-1"}


def pip_install(venv: Path, wheels: Sequence[Wheel], paths: Mapping[str, Path], folder: Path) -> None:
    """Install wheels as the plain build does (templates/dockerfile/python.j2)."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    links = folder / "links"
    links.mkdir(parents=True)
    for wheel in wheels:
        (links / wheel.filename).symlink_to(paths[wheel.sha256])
    # pip takes itself for installed when it runs from an archive that is not called like a wheel.
    installer = folder / f"pip-{version('pip')}-py3-none-any.whl"
    installer.write_bytes(pip_bytes())
    requirements = folder / "requirements.txt"
    requirements.write_text(
        "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels)
    )
    options = "--isolated --no-cache-dir --no-index --require-hashes --no-deps --only-binary :all: --no-input"
    quiet = "--disable-pip-version-check --no-warn-script-location --progress-bar off --quiet"
    subprocess.run(
        [
            *(str(venv / "bin" / "python"), "-I", str(installer / "pip"), "install", *options.split(), *quiet.split()),
            *("--find-links", str(links), "--requirement", str(requirements)),
        ],
        check=True,
        env={"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": "0", "PIP_CONFIG_FILE": "/dev/null"},
        umask=0o022,
    )


def differences(store: LayerStore, layers: Iterable[StoredLayer], venv: Path) -> list[str]:
    """Compare layers with what pip left in ``venv``, file by file: kind, mode, content."""
    ours = files_of(store, layers, below=str(venv))
    own = set(_skeleton(venv))
    theirs = {str(path.relative_to(venv)) for path in _files(venv)} - own
    found = [f"only pip: {name}" for name in sorted(theirs - ours.keys())]
    for name in sorted(ours):
        path = venv / name
        if name not in theirs:
            if not _rare_encoding(venv, name):
                found.append(f"only we: {name}")
        elif difference := _difference(ours[name], path, venv):
            found.append(f"{difference}: {name}")
    return found


def _files(venv: Path) -> Iterable[Path]:
    for folder, _, files in os.walk(venv):
        yield from (Path(folder, name) for name in files)


def _skeleton(venv: Path) -> Iterable[str]:
    yield from ("pyvenv.cfg", ".gitignore")
    for name in ("python", "python3", f"python3.{sys.version_info[1]}"):
        yield f"bin/{name}"
    for name in ("activate", "activate.csh", "activate.fish", "Activate.ps1"):
        if (venv / "bin" / name).exists():
            yield f"bin/{name}"


def _rare_encoding(venv: Path, compiled: str) -> bool:
    if not compiled.endswith(".pyc"):
        return False
    with Path(importlib.util.source_from_cache(str(venv / compiled))).open("rb") as file:
        return tokenize.detect_encoding(file.readline)[0] not in LOADED


def _difference(ours: Entry, path: Path, venv: Path) -> str:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return "kind"
    if stat.S_IMODE(status.st_mode) != ours.mode:
        return f"mode {stat.S_IMODE(status.st_mode):o}, ours {ours.mode:o}"
    assert ours.content is not None
    theirs = path.read_bytes()
    if path.suffix == ".pyc":
        return _compiled_difference(ours.content, theirs)
    if ours.content == theirs:
        return ""
    if path.name == "RECORD":
        rows = [row for row in _rows(ours.content) if not _rare_encoding(venv, _from_site(row[0], venv))]
        return "" if rows == _rows(theirs) else "record"
    return "content"


def _from_site(name: str, venv: Path) -> str:
    site = f"lib/python3.{sys.version_info[1]}/site-packages"
    return os.path.relpath(venv / site / name, venv)


def _rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def _compiled_difference(ours: bytes, theirs: bytes) -> str:
    """Compare compiled files: the same, but that pip's has the source's hash checked on each import (PEP 552)."""
    if ours[:4] != theirs[:4] or ours[8:16] != theirs[8:16]:
        return "compiled from something else"
    if ours[4:8] != b"\1\0\0\0" or theirs[4:8] != b"\3\0\0\0":
        return "invalidation mode"
    return "" if _same(marshal.loads(ours[16:]), marshal.loads(theirs[16:])) else "code"


_PARTS = (
    *("co_code", "co_names", "co_name", "co_qualname", "co_linetable", "co_exceptiontable", "co_flags"),
    *("co_varnames", "co_cellvars", "co_freevars", "co_argcount", "co_stacksize", "co_firstlineno"),
)


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, types.CodeType):
        return all(getattr(one, part) == getattr(other, part) for part in _PARTS) and _same(
            one.co_consts, other.co_consts
        )
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other if isinstance(one, frozenset) else repr(one) == repr(other)
