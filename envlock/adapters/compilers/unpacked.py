"""The interpreter of an unpacked root file system, run by its own dynamic linker: no engine, no root, no namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from envlock.errors import WorldError

_LIBRARIES = ("usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib64", "lib64", "usr/lib")


def unpacked_interpreter(root: Path, python: str) -> tuple[list[str], dict[str, str]]:
    """Return what starts an interpreter below ``root`` (``python``: its path in there), and the variables it needs.

    It sees this machine's files, so it is good for compiling and little else. Raises ``WorldError`` where the root
    file system has no such interpreter, or no dynamic linker of glibc to run it with.
    """
    program = _resolved(root, python)
    linker = next(_linkers(root), None)
    if linker is None or program is None:
        raise WorldError(f"the base's {python} cannot be run without an engine")
    home = program.parent.parent  # PREFIX/bin/python: so that it finds its own library and not this machine's
    folders = [home / "lib", *(folder for pattern in _LIBRARIES for folder in sorted(root.glob(pattern)))]
    libraries = ":".join(map(str, dict.fromkeys(folders)))
    return [str(linker), "--library-path", libraries, str(program)], {"PYTHONHOME": str(home)}


def _linkers(root: Path) -> Iterator[Path]:
    for folder in _LIBRARIES:
        yield from sorted(path for path in root.glob(f"{folder}/ld-linux-*.so.*") if path.is_file())


def _resolved(root: Path, path: str, *, links: int = 10) -> Path | None:
    """Follow a file's links as they would lead inside the root file system."""
    found = root / path.lstrip("/")
    if not found.is_symlink():
        return found if found.is_file() else None
    target = str(found.readlink())
    inside = target if target.startswith("/") else f"{Path(path).parent}/{target}"
    return _resolved(root, inside, links=links - 1) if links else None
