"""Where each file of a wheel goes, as pip decides it (binary distribution format), before anything is written."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser

from envlock.layers.archive import Member, WheelArchive
from envlock.layers.record import Row, parse_record
from envlock.layers.scripts import BadEntryPoint, EntryPoints, generated_scripts, parse_entry_points
from envlock.layers.target import Target

_SUPPORTED = 1  # major Wheel-Version


@dataclass(frozen=True, slots=True)
class Placed:
    """One file of the wheel and where it goes."""

    member: Member
    path: str  # in the layer: relative to the image's root
    installed: str  # as RECORD has it: relative to site-packages
    script: bool  # its first line may have to change


@dataclass(frozen=True, slots=True)
class Generated:
    """One file that the installation makes."""

    path: str
    installed: str
    content: bytes
    executable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """Everything that installing a wheel leaves, compiled files and RECORD aside."""

    placed: tuple[Placed, ...]  # sorted by path
    generated: tuple[Generated, ...]  # sorted by path
    record: Placed | None  # the wheel's own RECORD
    record_path: str
    rows: tuple[Row, ...]  # of the wheel's own RECORD
    requires_python: bool  # its metadata says something of Python's version

    def paths(self) -> list[str]:
        """Return the paths of all files but compiled ones."""
        return [
            *(file.path for file in self.placed),
            *(file.path for file in self.generated),
            self.record_path,
        ]


def plan_installation(archive: WheelArchive, *, name: str, target: Target, requested: bool) -> Installation:
    """Decide what installing a wheel leaves.

    ``name`` is the distribution's normalized name; ``requested`` says whether somebody asked for it by name (PEP 376).
    Raises ``InputError`` for a wheel that is none, or that would write where it must not.
    """
    info = _info_folder(archive, name)
    _check_version(archive, info)
    points = _entry_points(archive, info)
    placed = _placed(archive, points, target=target, name=name)
    generated = _generated(archive, points, info=info, target=target, requested=requested)
    overwritten = {file.path for file in generated}
    record = posixpath.join(target.site_packages, info, "RECORD").lstrip("/")
    _check_places(archive, placed, generated, target)
    rows = parse_record(_text(archive, f"{info}/RECORD")) if f"{info}/RECORD" in archive.by_name else []
    return Installation(
        placed=tuple(
            sorted(
                (file for file in placed if file.path not in overwritten and file.path != record),
                key=lambda file: file.path,
            )
        ),
        generated=tuple(sorted(generated, key=lambda file: file.path)),
        record=next((file for file in placed if file.path == record), None),
        record_path=record,
        rows=tuple(rows),
        requires_python=bool((_headers(archive, f"{info}/METADATA")["Requires-Python"] or "").strip()),
    )


def _info_folder(archive: WheelArchive, name: str) -> str:
    folders = {member.name.partition("/")[0] for member in archive.members}
    found = sorted(folder for folder in folders if folder.endswith(".dist-info"))
    if len(found) != 1:
        raise archive.refused(f"it has {len(found)} .dist-info folders" if found else "it has no .dist-info folder")
    if not re.sub(r"[-_.]+", "-", found[0]).lower().startswith(name):
        raise archive.refused(f"its {found[0]!r} is not that of {name}")
    return found[0]


def _text(archive: WheelArchive, member: str) -> str:
    if member not in archive.by_name:
        raise archive.refused("it is missing", member)
    try:
        return archive.read(archive.by_name[member]).decode()
    except UnicodeDecodeError as error:
        raise archive.refused("it is not UTF-8", member) from error


def _headers(archive: WheelArchive, member: str) -> Message:
    return Parser().parsestr(_text(archive, member), headersonly=True)


def _check_version(archive: WheelArchive, info: str) -> None:
    version = _headers(archive, f"{info}/WHEEL")["Wheel-Version"] or ""
    major = version.strip().partition(".")[0]
    if not major.isdecimal() or int(major) > _SUPPORTED:
        raise archive.refused(f"its format ({version.strip() or 'none'}) is not one that is known")


def _entry_points(archive: WheelArchive, info: str) -> EntryPoints:
    path = f"{info}/entry_points.txt"
    return parse_entry_points(_text(archive, path)) if path in archive.by_name else EntryPoints()


def _placed(archive: WheelArchive, points: EntryPoints, *, target: Target, name: str) -> list[Placed]:
    folders = target.scheme(name)
    placed = []
    for member in archive.members:
        top, _, rest = member.name.partition("/")
        kind = "purelib"
        if top.endswith(".data"):
            kind, _, below = rest.partition("/")
            if not below or kind not in folders:
                raise archive.refused(f"it is in none of {', '.join(sorted(folders))}", member.name)
            if kind == "scripts" and points.hides(posixpath.basename(below)):
                continue
        else:
            below = member.name
        full = posixpath.join(folders[kind], below)
        placed.append(
            Placed(
                member=member,
                path=_in_layer(full, target),
                installed=from_site_packages(full, target),
                script=kind == "scripts" and top.endswith(".data"),
            )
        )
    return placed


def from_site_packages(path: str, target: Target) -> str:
    """Return a path in the image as RECORD has it."""
    site = f"{target.site_packages}/"
    return path.removeprefix(site) if path.startswith(site) else posixpath.relpath(path, site)


def _in_layer(path: str, target: Target) -> str:
    """Return a path as a layer has it: lib64 is a link to lib, which an entry below it would replace."""
    lib64 = f"{target.venv}/lib64/"
    if path.startswith(lib64):
        path = f"{target.venv}/lib/{path.removeprefix(lib64)}"
    return path.lstrip("/")


def _generated(
    archive: WheelArchive, points: EntryPoints, *, info: str, target: Target, requested: bool
) -> list[Generated]:
    try:
        scripts = generated_scripts(points, target)
    except BadEntryPoint as error:
        raise archive.refused(f"an entry point makes no script: {error}", f"{info}/entry_points.txt") from error
    files = [(f"{target.venv}/bin/{script}", content, True) for script, content in scripts.items()]
    files.append((f"{target.site_packages}/{info}/INSTALLER", b"pip\n", False))
    if requested:
        files.append((f"{target.site_packages}/{info}/REQUESTED", b"", False))
    return [
        Generated(path.lstrip("/"), from_site_packages(path, target), content, executable)
        for path, content, executable in files
    ]


def _check_places(
    archive: WheelArchive, placed: Iterable[Placed], generated: Iterable[Generated], target: Target
) -> None:
    """Refuse files that hide another file or folder, or a part of the virtual environment itself."""
    own_files, own_folders = _environment(target)
    seen: dict[str, str] = {}
    for file in placed:
        if file.path in seen:
            raise archive.refused(f"it hides {seen[file.path]!r}", file.member.name)
        if file.path in own_files or file.path in own_folders:
            raise archive.refused("it would replace a part of the virtual environment itself", file.member.name)
        seen[file.path] = file.member.name
    for made in generated:
        if made.path in own_files:
            raise archive.refused(f"its script {made.path!r} would replace a part of the virtual environment itself")
    for path, name in seen.items():
        for folder in parents(path):
            if folder in seen or folder in own_files:
                raise archive.refused(f"it is below {seen.get(folder, folder)!r}, which is no folder", name)


def _environment(target: Target) -> tuple[set[str], set[str]]:
    """Return the files and folders of an empty virtual environment, as a layer has their paths."""
    venv = target.venv.lstrip("/")
    interpreters = ("python", "python3", f"python{target.minor}")
    scripts = ("activate", "activate.csh", "activate.fish", "Activate.ps1")
    files = {f"{venv}/bin/{name}" for name in (*interpreters, *scripts)}
    files |= {f"{venv}/pyvenv.cfg", f"{venv}/.gitignore", f"{venv}/lib64"}
    site = target.site_packages.lstrip("/")
    folders = {venv, f"{venv}/bin", f"{venv}/include", f"{venv}/include/python{target.minor}", site, *parents(site)}
    return files, folders


def parents(path: str) -> Iterable[str]:
    """Yield the folders above a path, innermost first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
