"""Tiny wheels and sdists, made in a few milliseconds, the same bytes every time.

::

    wheel("demo", "1.0", requires=["other>=2"], files={"demo.py": "X = 1\\n"})   -> Package(filename, content)
    wheel("demo", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")                -> for one platform
    sdist("demo", "1.0", files={"demo.py": "X = 1\\n"})                          -> builds with the backend inside it

``save(package, folder)`` writes one to disk (a find-links folder, say). ``tests.support.index_server`` serves them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

EPOCH = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One distribution file, with what an index says of it besides its name."""

    name: str  # normalized
    version: str
    filename: str
    content: bytes
    metadata: bytes  # core metadata (METADATA or PKG-INFO)
    requires_python: str | None = None
    uploaded: str | None = None  # ISO 8601
    yanked: bool | str = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def core_metadata(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    extras: Mapping[str, Sequence[str]] | None = None,
    requires_python: str | None = None,
) -> bytes:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if requires_python:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {line}" for line in requires]
    for extra, wanted in (extras or {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for line in wanted:
            requirement, _, marker = line.partition(";")
            condition = f'extra == "{extra}"' + (f" and ({marker.strip()})" if marker.strip() else "")
            lines.append(f"Requires-Dist: {requirement.strip()} ; {condition}")
    return ("\n".join(lines) + "\n").encode()


def wheel(
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    extras: Mapping[str, Sequence[str]] | None = None,
    requires_python: str | None = None,
    tag: str = "py3-none-any",
    build: str = "",
    files: Mapping[str, str | bytes] | None = None,
    entry_points: Mapping[str, Mapping[str, str]] | None = None,
    uploaded: str | None = None,
    yanked: bool | str = False,
) -> Package:
    """Make a wheel.

    ``files``: archive path → content (default: a module named as the package); ``NAME-VERSION.data/…`` paths work.
    ``entry_points``: group → name → object (``{"console_scripts": {"demo": "demo:main"}}``). ``tag``: the wheel's
    tags as in its file name, compressed sets allowed. ``build``: build tag.
    """
    stem = re.sub(r"[-_.]+", "_", name)
    escaped = version.replace("-", "_")
    described = core_metadata(name, version, requires=requires, extras=extras, requires_python=requires_python)
    info = f"{stem}-{escaped}.dist-info"
    pure = "true" if tag.endswith("-none-any") else "false"
    pythons, abis, platforms = tag.split("-")
    tags = [f"{p}-{a}-{f}" for p in pythons.split(".") for a in abis.split(".") for f in platforms.split(".")]
    wheel_file = ["Wheel-Version: 1.0", "Generator: envlock-tests", f"Root-Is-Purelib: {pure}"]
    wheel_file += [f"Build: {build}"] if build else []
    wheel_file += [f"Tag: {one}" for one in tags]
    content: dict[str, bytes] = {}
    for path, text in (files if files is not None else {f"{stem}.py": f"VERSION = {version!r}\n"}).items():
        content[path] = text.encode() if isinstance(text, str) else text
    content[f"{info}/METADATA"] = described
    content[f"{info}/WHEEL"] = ("\n".join(wheel_file) + "\n").encode()
    if entry_points:
        content[f"{info}/entry_points.txt"] = _ini(entry_points)
    content[f"{info}/RECORD"] = _record(content, f"{info}/RECORD")
    middle = f"-{build}" if build else ""
    return Package(
        name=normalize(name),
        version=version,
        filename=f"{stem}-{escaped}{middle}-{tag}.whl",
        content=_zip(content),
        metadata=described,
        requires_python=requires_python,
        uploaded=uploaded,
        yanked=yanked,
    )


# A PEP 517 backend that needs nothing: it makes the wheel that the sdist was told to become.
_BACKEND = """\
import base64, hashlib, os, pathlib, zipfile

NAME, VERSION, STEM, FAIL, CHECK, ASKS = {name!r}, {version!r}, {stem!r}, {fail!r}, {check!r}, {asks!r}

def get_requires_for_build_wheel(config_settings=None):
    return ASKS

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if FAIL:
        raise SystemExit(FAIL)
    if CHECK:
        exec(CHECK)
    files = {{path: pathlib.Path("src", path).read_bytes() for path in {paths!r}}}
    info = f"{{STEM}}-{{VERSION}}.dist-info"
    files[info + "/METADATA"] = pathlib.Path("PKG-INFO").read_bytes()
    files[info + "/WHEEL"] = b"Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    record = "".join(
        f"{{p}},sha256={{base64.urlsafe_b64encode(hashlib.sha256(c).digest()).rstrip(b'=').decode()}},{{len(c)}}\\n"
        for p, c in files.items()
    )
    files[info + "/RECORD"] = (record + info + "/RECORD,,\\n").encode()
    name = f"{{STEM}}-{{VERSION}}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content)
    return name
"""


def sdist(
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    build_requires: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    fail: str = "",
    check: str = "",
    asks: Sequence[str] = (),
    backend: str = "own_backend",
    extra_members: Sequence[tarfile.TarInfo] = (),
    uploaded: str | None = None,
    yanked: bool | str = False,
) -> Package:
    """Make an sdist that pip can build with no network.

    ``build_requires`` goes into ``build-system.requires``; ``check`` is Python code that the backend runs first
    (it can import the build requirements, look for a network…); ``fail`` makes the build fail with that message.
    ``asks`` is what the backend asks for when it is asked itself (PEP 517, get_requires_for_build_wheel).
    ``extra_members`` are added to the tar as they are (for hostile archives).
    """
    stem = re.sub(r"[-_.]+", "_", name)
    described = core_metadata(name, version, requires=requires, requires_python=requires_python)
    modules = dict(files) if files is not None else {f"{stem}.py": f"VERSION = {version!r}\n"}
    root = f"{stem}-{version}"
    content = {
        "PKG-INFO": described.decode(),
        "pyproject.toml": "[build-system]\n"
        f"requires = {list(build_requires)!r}\nbuild-backend = {backend!r}\nbackend-path = ['.']\n",
        "own_backend.py": _BACKEND.format(
            name=name, version=version, stem=stem, fail=fail, check=check, asks=list(asks), paths=list(modules)
        ),
        **{f"src/{path}": text for path, text in modules.items()},
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in content.items():
            member = tarfile.TarInfo(f"{root}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        for member in extra_members:
            archive.addfile(member, io.BytesIO(b"\0" * member.size))
    return Package(
        name=normalize(name),
        version=version,
        filename=f"{root}.tar.gz",
        content=gzip.compress(buffer.getvalue(), mtime=0),
        metadata=described,
        requires_python=requires_python,
        uploaded=uploaded,
        yanked=yanked,
    )


def save(package: Package, folder: Path) -> Path:
    """Write a package into a folder (made if missing) and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.filename
    path.write_bytes(package.content)
    return path


def _ini(groups: Mapping[str, Mapping[str, str]]) -> bytes:
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    return ("\n".join(lines) + "\n").encode()


def _record(content: Mapping[str, bytes], itself: str) -> bytes:
    lines = []
    for path, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}")
    return ("\n".join([*lines, f"{itself},,"]) + "\n").encode()


def _zip(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            info = zipfile.ZipInfo(path, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def installed_wheel(name: str) -> Package:
    """Return a pure-Python package that is installed beside the tests as a wheel again (a real pip, say)."""
    distribution = metadata.distribution(name)
    files = {
        file.as_posix(): Path(str(distribution.locate_file(file))).read_bytes()
        for file in sorted(distribution.files or ())
        if ".." not in file.parts and "__pycache__" not in file.parts and not file.parts[0].endswith(".dist-info")
    }
    return wheel(name, distribution.version, files=files, requires_python=">=3.8", uploaded="2020-01-01T00:00:00Z")
