"""One requirement line (PEP 508), as a spec or a requirements file may have it."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from envlock.formats.text import quote

# After normalisation nothing else can be in one. What a shell or a Dockerfile gives a meaning to is not among them,
# but for < > ( ) ; and quotes, which the grammar itself needs: lines go into files and argument lists only.
_CANONICAL = re.compile(r"""[A-Za-z0-9 ._,<>=!~*+\[\]();'"-]+""")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508; packaging lets "a_" pass
_LONGEST = 2000

_PUBLISH = "build a wheel of it and put that into a folder of pip.find_links, or publish it to an index of pip.indexes"


class BadRequirement(ValueError):
    """Why a line is not accepted; ``offset`` is the 0-based place of the fault in it."""

    def __init__(self, *, message: str, hint: str = "", offset: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.offset = offset


def canonical(line: str) -> str:
    """Return the one spelling of a requirement, with its name normalized (PEP 503); raises ``BadRequirement``."""
    requirement = parse(line)
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement)


def parse(line: str) -> Requirement:
    """Read a requirement by name; raises ``BadRequirement`` for URLs, paths, VCS and what PEP 508 does not know."""
    if len(line) > _LONGEST:
        raise BadRequirement(message=f"has more than {_LONGEST:,} characters")
    _refuse_other_forms(line)
    try:
        requirement = Requirement(line)
        text = str(requirement)
    except (InvalidRequirement, RecursionError) as error:
        raise _explained(line, error) from None
    if requirement.url is not None:
        kind = "a version control system" if re.match(r"[a-z]+\+", requirement.url) else "a URL"
        raise BadRequirement(message=f"{quote(line)} comes from {kind}", hint=_PUBLISH)
    wrong = next((name for name in (requirement.name, *sorted(requirement.extras)) if not _NAME.fullmatch(name)), None)
    if wrong is not None:
        raise BadRequirement(
            message=f"{quote(wrong)} is not a name", hint="a name ends with a letter or a digit (PEP 508)"
        )
    if any(specifier.operator == "===" for specifier in requirement.specifier):
        raise BadRequirement(message=f"{quote(line)} compares versions as text (===)", hint="pin with ==")
    if not _CANONICAL.fullmatch(text):
        raise BadRequirement(message=f"{quote(line)} has characters that no requirement needs")
    return requirement


def _refuse_other_forms(line: str) -> None:
    if line.startswith("-"):
        option = line.split(maxsplit=1)[0].partition("=")[0]
        raise BadRequirement(message=f"{quote(option)} is an option and not a requirement")
    if re.match(r"(?:git|hg|svn|bzr)\+", line):
        raise BadRequirement(message=f"{quote(line)} comes from a version control system", hint=_PUBLISH)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|file:", line):
        raise BadRequirement(message=f"{quote(line)} is a URL", hint=_PUBLISH)
    bare = re.split(r"[\[;\s]", line, maxsplit=1)[0]
    is_path = re.search(r"[/\\]|^\.+$|\.(?:whl|zip|tar\.(?:gz|bz2|xz)|tgz)$", bare)
    if is_path and "@" not in bare:
        raise BadRequirement(message=f"{quote(bare)} is a path", hint=_PUBLISH)


def _explained(line: str, error: Exception) -> BadRequirement:
    lines = str(error).split("\n")
    mark = lines[-1].find("^") - 4 if len(lines) > 1 else 0  # packaging indents the line by four and points below it
    reason = lines[0][:1].lower() + lines[0][1:] if isinstance(error, InvalidRequirement) else "nested too deep"
    hint = ""
    single = re.fullmatch(r"([A-Za-z0-9._-]+)\s*=\s*([A-Za-z0-9.+!*]+)", line)
    spaced = re.fullmatch(r"([A-Za-z0-9._-]+)\s+([0-9][A-Za-z0-9.+!*]*)", line)
    if found := single or spaced:
        hint = f"did you mean {found[1]}=={found[2]}?"
    return BadRequirement(
        message=f"{quote(line)} is not a requirement: {quote(reason)[1:-1]}",
        hint=hint,
        offset=min(max(mark, 0), len(line)),
    )
