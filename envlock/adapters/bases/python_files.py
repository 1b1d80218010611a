"""Which files of an image running its Python takes: a CUDA base has gigabytes, and of those some forty megabytes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from envlock.model.lock import Base

FORMAT = 1  # of what is unpacked: another number whenever these rules change

# What the interpreter and the modules of its standard library that compiling and ``venv`` import are linked with.
_LIBRARIES = re.compile(
    r"(ld-linux.*|ld64|libpython3.*|lib(c|m|dl|rt|util|pthread|resolv|crypt|crypto|z|bz2|lzma|expat|ffi|gcc_s|mpdec))"
    r"(-[0-9.]+)?\.so(\.[0-9.]+)?"
)
_LIBRARY_FOLDER = re.compile(r"lib(64)?(/[a-z0-9_]+-linux-gnu\w*)?")
_ALTERNATIVES = "etc/alternatives"  # of Debian: links from /usr/bin lead there, and from there to the programs
# Of the standard library: other people's packages, what needs a screen, and the largest part, its own tests.
_LEFT_OUT = re.compile(r"(site|dist)-packages|test|tests|idlelib|turtledemo|tkinter|ensurepip|config-.*")


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonFiles:
    """The rules for one interpreter; all paths are relative to the image's root."""

    prefixes: tuple[str, ...]  # that have bin/ and lib/ in them; "" for the root itself
    library: str  # "python3.11"
    paths: tuple[str, ...] = ()  # of PYTHONPATH

    def wants(self, path: str, *, link: bool) -> bool:
        """Say whether a file or link is needed."""
        folder, name = posixpath.split(path)
        if link and folder in ("", "usr"):
            return True  # /lib → usr/lib, /usr/lib64 → lib: other paths lead through them
        if folder == _ALTERNATIVES:
            return link and name.startswith("python")
        if path.startswith(f"etc/{self.library}/"):
            return True  # sitecustomize.py of Debian
        if any(_is_metadata(path, top) for top in self.paths):
            return True
        return any(self._below(_inside(path, prefix)) for prefix in self.prefixes)

    def _below(self, path: str | None) -> bool:
        if path is None:
            return False
        folder, name = posixpath.split(path)
        if folder == "bin":
            return name.startswith("python")
        if path == "pyvenv.cfg":
            return True
        if _LIBRARY_FOLDER.fullmatch(folder):
            return _LIBRARIES.fullmatch(name) is not None
        parts = path.split("/")
        in_library = len(parts) > 2 and parts[0] in ("lib", "lib64") and parts[1] == self.library  # noqa: PLR2004
        return in_library and not _LEFT_OUT.fullmatch(parts[2])


def python_files(base: Base) -> PythonFiles:
    """Return the rules for a base's interpreter."""
    python = base.python
    own = posixpath.dirname(posixpath.dirname(python.executable))
    prefixes = dict.fromkeys(prefix.strip("/") for prefix in ("/usr", "/usr/local", "", python.prefix, own))
    return PythonFiles(
        prefixes=tuple(prefixes),
        library="python" + ".".join(python.version.split(".")[:2]),
        paths=tuple(path.strip("/") for path in python_path(base)),
    )


def python_path(base: Base) -> Sequence[str]:
    """Return the folders that the base's own variables put on its Python's path."""
    return [path for path in base.env.get("PYTHONPATH", "").split(":") if path.startswith("/")]


def _inside(path: str, prefix: str) -> str | None:
    if not prefix:
        return path
    return path.removeprefix(prefix + "/") if path.startswith(prefix + "/") else None


def _is_metadata(path: str, top: str) -> bool:
    """Say whether a file describes a package (PEP 376) that is installed in a folder."""
    inside = _inside(path, top)
    if inside is None:
        return False
    first, _, rest = inside.partition("/")
    return (first.endswith((".dist-info", ".egg-info"))) and rest in ("", "METADATA", "PKG-INFO")
