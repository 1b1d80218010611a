"""pip's requirements file format, line by line: what each line is, and where it stands.

Source: pip's documentation, "Requirements File Format": comments, continuation lines, includes, per-line options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from envlock.formats.requirement import BadRequirement, canonical
from envlock.formats.text import quote

_COMMENT = re.compile(r"(?:^|\s)#.*$")
_HASH = re.compile(r"--hash[=\s]\s*(\S+)")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_LINE_BREAKS = re.compile(r"\r\n|\r|\n")

_INCLUDES: dict[str, Literal["requirements", "constraints"]] = {
    "-r": "requirements",
    "--requirement": "requirements",
    "-c": "constraints",
    "--constraint": "constraints",
}
_CREDENTIALS = "credentials come from netrc, a keyring or pip's own configuration"
_WHEELS_ONLY = "leave it out: packages come as wheels, but for those that pip.sdist names"
REFUSED = {
    "-i": f"the default index is pip's own setting; any other is declared under pip.indexes; {_CREDENTIALS}",
    "--extra-index-url": f"declare it under pip.indexes, with the packages that come from it; {_CREDENTIALS}",
    "--no-index": "leave it out; folders of wheels are declared under pip.find_links",
    "-f": "declare the folder under pip.find_links",
    "--no-binary": "name the packages that may be built from source under pip.sdist",
    "--only-binary": _WHEELS_ONLY,
    "--prefer-binary": _WHEELS_ONLY,
    "--require-hashes": "leave it out: a lock always has hashes",
    "--pre": "name the pre-release: package==2.0rc1",
    "--trusted-host": "it is pip's own setting: pip config set global.trusted-host HOST",
    "--use-feature": "leave it out",
    "-e": "build a wheel and put it into a folder of pip.find_links; your own project's files go in by project.include",
    "--global-option": "build a wheel with it and put that into a folder of pip.find_links",
    "--config-settings": "build a wheel with it and put that into a folder of pip.find_links",
}
_SAME = {
    "--index-url": "-i",
    "--pypi-url": "-i",
    "--find-links": "-f",
    "--editable": "-e",
    "--config-setting": "--config-settings",
    "--install-option": "--global-option",
    "--build-option": "--global-option",
}
_OPTIONS = (*_INCLUDES, *REFUSED, *_SAME, "--hash")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pinned:
    """A requirement in canonical form, with the sha256 hashes that the line allows (none: all)."""

    line: int
    column: int
    requirement: str
    hashes: tuple[str, ...]  # hex


@dataclass(frozen=True, kw_only=True, slots=True)
class Include:
    """``-r`` or ``-c`` with a path, as written."""

    line: int
    column: int
    kind: Literal["requirements", "constraints"]
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A line that envlock does not take; ``option`` is its short name and ``value`` what follows, where it is one."""

    line: int
    column: int
    text: str  # the line as written, without comments; may hold credentials: show it by ``text.quote``
    message: str
    hint: str
    option: str = ""
    value: str = ""


Entry = Pinned | Include | Refused


def read_lines(text: str) -> Iterator[Entry]:
    """Yield every entry of a requirements file, in order. Faults are entries too: nothing is raised."""
    for logical in _logical_lines(text):
        if logical.text:
            yield _entry(logical)


# --- from physical to logical lines ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Logical:
    text: str
    pieces: tuple[tuple[int, int, int], ...]  # (offset in the text, line, column), ascending

    def place(self, offset: int) -> tuple[int, int]:
        start, line, column = max(piece for piece in self.pieces if piece[0] <= max(offset, 0))
        return line, column + max(offset, 0) - start


def _logical_lines(text: str) -> Iterator[_Logical]:
    parts: list[str] = []
    pieces: list[tuple[int, int, int]] = []
    length = 0
    for number, raw in enumerate(_LINE_BREAKS.split(text), start=1):
        is_comment = raw.lstrip().startswith("#")
        # as pip does: a comment ends the continuation, and a backslash at its end continues nothing
        body = f" {raw}" if is_comment else raw
        continues = raw.endswith("\\") and not is_comment
        pieces.append((length, number, 0 if is_comment else 1))
        parts.append(body.removesuffix("\\") if continues else body)
        length += len(parts[-1])
        if not continues:
            yield _trimmed("".join(parts), pieces)
            parts, pieces, length = [], [], 0
    if parts:
        yield _trimmed("".join(parts), pieces)


def _trimmed(text: str, pieces: list[tuple[int, int, int]]) -> _Logical:
    bare = _COMMENT.sub("", text)
    start = len(bare) - len(bare.lstrip())
    shifted = [(offset - start, line, column) for offset, line, column in pieces]
    return _Logical(text=bare.strip(), pieces=tuple(shifted))


# --- from logical lines to entries ----------------------------------------------------------------------------------


def _entry(logical: _Logical) -> Entry:
    return _option(logical) if logical.text.startswith("-") else _requirement(logical)


def _option(logical: _Logical) -> Entry:
    line, column = logical.place(0)
    found = re.fullmatch(r"(--[A-Za-z-]+|-[A-Za-z]?)(?:\s*=\s*|\s+|)(.*)", logical.text, re.DOTALL)
    name, value = (found[1], found[2].strip()) if found else (logical.text.split()[0], "")
    name = _SAME.get(name, name)
    if name in _INCLUDES and value:
        return Include(line=line, column=column, kind=_INCLUDES[name], path=_unquoted(value))
    shown = logical.text.split()[0].partition("=")[0]
    message, hint = f"option {quote(shown)[1:-1]} is not taken here", REFUSED.get(name, "")
    if name in _INCLUDES:
        message, hint = f"{shown} needs a path", ""
    elif name not in REFUSED:
        near = get_close_matches(name, _OPTIONS, n=1)
        message = f"{quote(shown)} is no option of a requirements file"
        hint = f"did you mean {near[0]}?" if near else ""
    text = logical.text
    return Refused(line=line, column=column, text=text, message=message, hint=hint, option=name, value=_unquoted(value))


def _requirement(logical: _Logical) -> Entry:
    # as pip does: options start at the first word with a dash
    found = re.search(r"\s-(?=[A-Za-z-])", logical.text)
    body, options = (logical.text[: found.start()], logical.text[found.start() :]) if found else (logical.text, "")
    line, column = logical.place(0)
    hashes, strange = _hashes(options)
    if strange:
        place = logical.place(len(body) + options.index(strange))
        name = strange.partition("=")[0]
        hint = REFUSED.get(_SAME.get(name, name), "after a requirement, only --hash=sha256:… can stand")
        message = f"{quote(strange)} is not taken here"
        return Refused(line=place[0], column=place[1], text=logical.text, message=message, hint=hint)
    try:
        requirement = canonical(body.strip())
    except BadRequirement as error:
        line, column = logical.place(error.offset)
        return Refused(line=line, column=column, text=logical.text, message=error.message, hint=error.hint)
    return Pinned(line=line, column=column, requirement=requirement, hashes=hashes)


def _hashes(options: str) -> tuple[tuple[str, ...], str]:
    """Return the sha256 hashes, and the first word that is no option known here."""
    hashes = set()
    for value in _HASH.findall(options):
        sha256 = _SHA256.fullmatch(value)
        if sha256 is None:
            return (), value
        hashes.add(sha256[1])
    words = _HASH.sub(" ", options).split(maxsplit=1)
    return tuple(sorted(hashes)), words[0] if words else ""


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
