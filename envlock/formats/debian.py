"""Debian's text formats: versions, names, deb822 paragraphs, dpkg's status, os-release.

Sources: Debian policy §5.1 (control file syntax), §5.6.1 (names), §5.6.12 (versions); deb822(5), deb-version(7),
os-release(5). All of it is pure, and what it reads may be anybody's: sizes are bounded, and what is malformed raises
``DebianFormatError``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

NAME = r"[a-z0-9][a-z0-9+.-]+"  # policy §5.6.1
ARCHITECTURE = r"[a-z0-9][a-z0-9-]*"
VERSION = (
    r"(?:[0-9]+:[A-Za-z0-9][A-Za-z0-9.+~:-]*|[A-Za-z0-9][A-Za-z0-9.+~-]*)"  # policy §5.6.12; may start with a letter
)

_LONGEST_VERSION = 256  # characters
_LARGEST_EPOCH = 2**31 - 1  # dpkg keeps it in an int
_LARGEST_TEXT = 64 * 1024 * 1024  # characters; Debian's whole Packages index has 45 million

Paragraph = Mapping[str, str]  # field name in lower case → value, continuation lines after "\n"


class DebianFormatError(ValueError):
    """A text is not what Debian's policy says; the message says which line."""


# --- names and versions -----------------------------------------------------------------------------------------------

_NAME = re.compile(rf"(?P<name>{NAME})(?::(?P<architecture>{ARCHITECTURE}))?")
_VERSION = re.compile(VERSION)
_PARTS = re.compile(r"([^0-9]*)([0-9]*)")

_Pair = tuple[tuple[int, ...], int]
_PartKey = tuple[tuple[tuple[int, int], _Pair], ...]
VersionKey = tuple[int, _PartKey, _PartKey]

_NOTHING: _Pair = ((0,), 0)


def is_name(text: str) -> bool:
    """Return whether a text is a package's name (policy §5.6.1), with or without ``:architecture``."""
    return _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Return whether a text is a package's version (policy §5.6.12)."""
    return len(text) <= _LONGEST_VERSION and _VERSION.fullmatch(text) is not None and _epoch(text) <= _LARGEST_EPOCH


def version_key(version: str) -> VersionKey:
    """Return what sorts as dpkg sorts versions (policy §5.6.12): ``1.0~rc1 < 1.0 < 1.0+b1 < 1:0``.

    Raises ``DebianFormatError`` for what is no version.
    """
    if not is_version(version):
        raise DebianFormatError(f"{version[:80]!r} is not a Debian version")
    rest = version.partition(":")[2] if ":" in version else version
    upstream, dash, revision = rest.rpartition("-")
    return _epoch(version), _part_key(upstream if dash else revision), _part_key(revision if dash else "")


def _epoch(version: str) -> int:
    epoch, colon, _ = version.partition(":")
    return int(epoch) if colon and epoch.isdigit() else 0


def _part_key(part: str) -> _PartKey:
    """Return a key in which a part goes on without end, with nothing: "0~" is before "0", and "0" is "" and "00".

    Each pair of text and number that is not nothing is preceded by whether it sorts before or after nothing, and how
    many nothings stand before it: the more of them, the nearer to nothing.
    """
    key: list[tuple[tuple[int, int], _Pair]] = []
    skipped = 0
    for text, number in _PARTS.findall(part):
        pair = (_text_key(text), int(number or "0"))
        if pair == _NOTHING:
            skipped += 1
            continue
        side = 1 if pair > _NOTHING else -1
        key.append(((side, -side * skipped), pair))
        skipped = 0
    return (*key, ((0, 0), _NOTHING))


def _text_key(text: str) -> tuple[int, ...]:
    return (*(_character_key(character) for character in text), 0)


def _character_key(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


# --- platforms --------------------------------------------------------------------------------------------------------

_ARCHITECTURES = {
    "linux/386": "i386",
    "linux/amd64": "amd64",
    "linux/arm/v5": "armel",
    "linux/arm/v7": "armhf",
    "linux/arm64": "arm64",
    "linux/arm64/v8": "arm64",
    "linux/ppc64le": "ppc64el",
    "linux/riscv64": "riscv64",
    "linux/s390x": "s390x",
}


def architecture(platform: str) -> str:
    """Return Debian's word for a platform of the OCI image specification (``linux/arm64`` → ``arm64``)."""
    return _ARCHITECTURES.get(platform) or platform.split("/")[1 if "/" in platform else 0]


# --- deb822 -----------------------------------------------------------------------------------------------------------


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    r"""Yield the paragraphs of a control file, a Packages or Release index, or a .sources file (deb822(5)).

    Fields are folded to lower case; continuation lines keep their own indentation and are joined with ``\n``; lines
    that start with ``#`` are comments. Raises ``DebianFormatError`` with the line's number.
    """
    if len(text) > _LARGEST_TEXT:
        raise DebianFormatError(f"more than {_LARGEST_TEXT:,} characters")
    fields: dict[str, str] = {}
    last = ""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        if line.startswith("#"):
            continue
        if not line.strip(" \t"):
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if not last:
                raise DebianFormatError(f"line {number}: a continuation line with no field before it")
            fields[last] += "\n" + line.rstrip(" \t")
        else:
            last = _add_field(fields, line, number)
    if fields:
        yield fields


def _add_field(fields: dict[str, str], line: str, number: int) -> str:
    name, colon, value = line.partition(":")
    if not colon or not _FIELD.fullmatch(name):
        raise DebianFormatError(f"line {number}: not a field ('Name: value')")
    key = name.lower()
    if key in fields:
        raise DebianFormatError(f"line {number}: {name} is there twice in one paragraph")
    fields[key] = value.strip(" \t")
    return key


_FIELD = re.compile(r"[!-9;-~]+")  # policy §5.1: printable ASCII without colon and space


def signed_text(message: str) -> str:
    """Return the text inside a cleartext signature (RFC 9580 §7), unchecked; any other text as it is.

    What comes from here decides nothing by itself: apt checks the signature of all that is installed.
    """
    lines = message.replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != "-----BEGIN PGP SIGNED MESSAGE-----":
        return message
    body: list[str] = []
    headers = True
    for line in lines[1:]:
        if headers:
            headers = bool(line.strip())
        elif line.startswith("-----BEGIN PGP SIGNATURE-----"):
            break
        else:
            body.append(line.removeprefix("- "))
    return "\n".join(body)


# --- dpkg -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class InstalledPackage:
    """One package that dpkg has installed."""

    name: str
    architecture: str
    version: str


def installed_packages(status: str) -> tuple[InstalledPackage, ...]:
    """Read /var/lib/dpkg/status: the packages whose files are there and that are configured (or wait for triggers).

    Raises ``DebianFormatError``.
    """
    found = []
    for fields in paragraphs(status):
        state = fields.get("status", "").split()
        if state[2:] in (["installed"], ["triggers-pending"], ["triggers-awaited"]):
            name, version = fields.get("package", ""), fields.get("version", "")
            if not is_name(name) or not is_version(version):
                raise DebianFormatError(f"dpkg's status has a package {name[:80]!r} with version {version[:80]!r}")
            found.append(InstalledPackage(name=name, architecture=fields.get("architecture", ""), version=version))
    return tuple(found)


# --- os-release -------------------------------------------------------------------------------------------------------

_ASSIGNMENT = re.compile(r"""([A-Za-z_][A-Za-z0-9_]*)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s"'\\]*))\s*""")


def parse_os_release(text: str) -> dict[str, str]:
    """Return the assignments of an os-release(5) file; lines that are none are skipped, as every reader does."""
    found = {}
    for line in text.splitlines():
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match:
            name, double, single, bare = match.groups()
            found[name] = re.sub(r"\\(.)", r"\1", double) if double is not None else single or bare or ""
    return found
