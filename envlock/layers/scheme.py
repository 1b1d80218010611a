"""Where each file of a wheel goes, as pip decides it (binary distribution format), before anything is written."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser

from packaging.utils import canonicalize_name

from envlock.layers.archive import Member, WheelArchive
from envlock.layers.record import Row, parse_record
from envlock.layers.scripts import BadEntryPoint, EntryPoints, generated_scripts, parse_entry_points
from envlock.layers.target import Target
from envlock.model.lock import Wheel

_SUPPORTED = 1  # major Wheel-Version
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, as Linux has it (limits.h)
_WHITEOUT = ".wh."  # such a file removes another one from the image (OCI image spec, layers)


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


def plan_installation(archive: WheelArchive, wheel: Wheel, *, target: Target) -> Installation:
    """Decide what installing a wheel leaves.

    Raises ``InputError`` for a wheel that is none, or not the one that it is said to be, or that would write where it
    must not.
    """
    name = wheel.name
    info = _info_folder(archive, name)
    _check_version(archive, info)
    metadata = _headers(archive, f"{info}/METADATA")
    _check_identity(archive, metadata, wheel)
    points = _entry_points(archive, info)
    placed = _placed(archive, points, target=target, name=name)
    generated = _generated(archive, points, info=info, target=target, requested=wheel.requested)
    overwritten = {file.path for file in generated}
    record = posixpath.join(target.site_packages, info, "RECORD").lstrip("/")
    _check_places(archive, placed, {*overwritten, record}, target)
    _check_information(archive, placed, info, target)
    rows = _rows(archive, f"{info}/RECORD")
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
        requires_python=bool((metadata["Requires-Python"] or "").strip()),
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


def _check_identity(archive: WheelArchive, metadata: Message, wheel: Wheel) -> None:
    """Refuse a wheel that would be listed as another package, or as another version of it, than the lock says."""
    name, version = (metadata["Name"] or "").strip(), (metadata["Version"] or "").strip()
    if re.sub(r"[-_.]+", "-", name).lower() != wheel.name or not _same_version(version, wheel.version):
        raise archive.refused(f"inside it says that it is {name!r} {version!r}")


def _same_version(one: str, other: str) -> bool:
    if one == other:
        return True
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415 - few wheels spell it in two ways

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False


def _rows(archive: WheelArchive, record: str) -> list[Row]:
    try:
        return parse_record(_text(archive, record)) if record in archive.by_name else []
    except csv.Error as error:
        raise archive.refused(f"it cannot be read ({error})", record) from error


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
        raise archive.refused(f"an entry point makes no script: {str(error)!r}", f"{info}/entry_points.txt") from error
    files = [(f"{target.venv}/bin/{script}", content, True) for script, content in scripts.items()]
    files.append((f"{target.site_packages}/{info}/INSTALLER", b"pip\n", False))
    if requested:
        files.append((f"{target.site_packages}/{info}/REQUESTED", b"", False))
    return [
        Generated(path.lstrip("/"), from_site_packages(path, target), content, executable)
        for path, content, executable in files
    ]


def _check_places(archive: WheelArchive, placed: Iterable[Placed], made: Collection[str], target: Target) -> None:
    """Refuse files that hide another file or folder, or a part of the virtual environment itself.

    ``made`` has the paths of what the installation makes, compiled files aside; those replace what the wheel brings.
    """
    own_files, own_folders = _environment(target)
    seen: dict[str, str] = {}
    for file in placed:
        if file.path in seen:
            raise archive.refused(f"it hides {seen[file.path]!r}", file.member.name)
        if file.path in own_files or file.path in own_folders:
            raise archive.refused("it would replace a part of the virtual environment itself", file.member.name)
        seen[file.path] = file.member.name
    for path in made:
        if path in own_files:
            raise archive.refused(f"its script {path!r} would replace a part of the virtual environment itself")
    compiled = [compiled_path(path, target) for path in seen if path.endswith(".py")]
    files = dict.fromkeys((*seen, *sorted(made), *compiled))
    for path in files:
        name = seen.get(path, path)
        _check_path(archive, path, name)
        for folder in parents(path):
            if folder in files or folder in own_files:
                raise archive.refused(f"it is below {seen.get(folder, folder)!r}, which is no folder", name)


def _check_path(archive: WheelArchive, path: str, name: str) -> None:
    parts = path.split("/")
    if any(part.startswith(_WHITEOUT) for part in parts):
        raise archive.refused("in an image layer, such a name removes other files", name)
    if len(path.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise archive.refused("its path is too long for a file system", name)


def _check_information(archive: WheelArchive, placed: Iterable[Placed], info: str, target: Target) -> None:
    """Refuse what would be listed as another package, or would change what is listed of one."""
    site = f"{target.site_packages}/".lstrip("/")
    own = _name_of(info)
    for file in placed:
        if not file.path.startswith(site):
            continue
        top, below, _ = file.path.removeprefix(site).partition("/")
        # As importlib.metadata finds them: in lower case, and an .egg-info may be one file.
        dist_info = bool(below) and top.lower().endswith(".dist-info") and top != info
        egg_info = top.lower().endswith(".egg-info") and _name_of(top) != own
        if dist_info or egg_info:
            raise archive.refused(f"it belongs to {top!r}, and that to another package", file.member.name)


def _name_of(information: str) -> str:
    """Return the normalized name (PEP 503) in the name of a .dist-info or .egg-info."""
    return canonicalize_name(information.rpartition(".")[0].partition("-")[0])


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


def compiled_path(path: str, target: Target) -> str:
    """Return where the compiled file of a source goes (PEP 3147)."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{target.cache_tag}.pyc"
