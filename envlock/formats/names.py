"""The forms of every name and version that a spec may hold.

Whatever ends up in a command line, a path, a URL or a Dockerfile is matched as a whole against one of these. The
patterns are read by Python and, in the JSON Schema, by ECMA 262: they name ASCII characters, and no classes.
"""

from __future__ import annotations

import re
from datetime import datetime

from packaging.utils import canonicalize_name

from envlock.formats.kinds import Problem, Text
from envlock.formats.text import has_credentials, is_one_line


def check_line(text: str) -> Problem:
    """Refuse what no line of a Dockerfile can hold."""
    return None if is_one_line(text) else ("has a line break or a control character in it", "")


# --- images (the reference grammar of the OCI distribution spec and of Docker's `distribution/reference`) ------------

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])"
_REPOSITORY = rf"(?:{HOST}(?::[0-9]{{1,5}})?/)?{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_LONGEST_REPOSITORY = 255


def _check_base(text: str) -> Problem:
    if text.startswith(("http://", "https://", "docker://")):
        return "is a URL", "leave the scheme out: registry.example.org/team/image:tag"
    repository = re.split(r"@|:[^/]*$", text)[0]
    if "/" not in repository and repository != repository.lower() and re.fullmatch(_REPOSITORY, repository.lower()):
        return "has capital letters in its repository", f"write {repository.lower()}"
    if len(repository) > _LONGEST_REPOSITORY:
        return f"has more than {_LONGEST_REPOSITORY} characters before its tag", ""
    return None


def _with_tag(text: str) -> str:
    # as Docker reads it; asked for without a tag, an engine's API would pull every tag there is
    return text if ":" in text.rpartition("/")[2] or "@" in text else f"{text}:latest"


IMAGE_REFERENCE = Text(
    what="an image reference",
    pattern=rf"{_REPOSITORY}(?::{_TAG})?(?:@{_DIGEST})?|{_DIGEST}",
    hint="like python:3.11-slim-bookworm, registry.example.org:5000/team/base:1 or repository@sha256:<64 hex digits>",
    check=_check_base,
    tidy=_with_tag,
)
REPOSITORY = Text(
    what="an image repository",
    pattern=_REPOSITORY,
    hint="like demo or registry.example.org:5000/team/demo, in lower case and without a tag",
    longest=_LONGEST_REPOSITORY,
)
TAG = Text(what="an image tag", pattern=_TAG, hint="letters, digits, _ . and -", plain=True)
PROJECT_NAME = Text(
    what="a name",
    pattern=_COMPONENT,
    hint="lower-case letters and digits, with . _ or - between them",
    longest=128,
)

# --- the target ------------------------------------------------------------------------------------------------------

_OLDEST_MINOR = 7


def _check_python(text: str) -> Problem:
    found = re.fullmatch(r"3\.([0-9]{1,2})(\.[0-9]{1,2})?", text)
    if found and int(found[1]) < _OLDEST_MINOR:
        return f"is older than Python 3.{_OLDEST_MINOR}", f'Python 3.{found[1]}0 is written "3.{found[1]}0"'
    if re.match(r"[<>=~!]", text):
        return "is a range", 'name the one version that the base has, like "3.11"'
    return None


PYTHON_VERSION = Text(
    what="a Python version",
    pattern=r"3\.[0-9]{1,2}(?:\.[0-9]{1,2})?",
    hint='like "3.11" or "3.11.9"',
    check=_check_python,
    plain=True,
)
CUDA_VERSION = Text(
    what="a CUDA version", pattern=r"[0-9]{1,2}\.[0-9]{1,2}(?:\.[0-9]{1,3})?", hint='like "11.8" or "12.4"', plain=True
)

_ARCHITECTURES = {"x86_64": "amd64", "x64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}


def _check_platform(text: str) -> Problem:
    system, _, architecture = text.partition("/")
    if not architecture and (system in _ARCHITECTURES or system in _ARCHITECTURES.values()):
        return "has no operating system", f"write linux/{_ARCHITECTURES.get(system, system)}"
    if system == "linux" and architecture in _ARCHITECTURES:
        return "names the architecture as nobody else does in images", f"write linux/{_ARCHITECTURES[architecture]}"
    if system in {"windows", "darwin", "macos"}:
        return "is not a Linux platform", "images are built for Linux only"
    return None


PLATFORM = Text(
    what="a platform",
    pattern=r"linux/[a-z0-9]{1,16}(?:/v[0-9]{1,2})?",
    hint="like linux/amd64, linux/arm64 or linux/arm/v7",
    check=_check_platform,
)


def _check_moment(text: str) -> Problem:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z)?", text):
        try:
            datetime.fromisoformat(text)
        except ValueError as error:
            return f"is no date: {error}", ""
    return None


MOMENT = Text(
    what="a date or a time in UTC",
    pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z)?",
    hint="like 2026-01-31 or 2026-01-31T12:00:00Z (ISO 8601)",
    check=_check_moment,
)

# --- apt (Debian policy §5.6.1 for names, §5.6.12 for versions) ------------------------------------------------------

_DEB_NAME = r"[a-z0-9][a-z0-9+.-]+"
_DEB_VERSION = r"(?:[0-9]+:)?[A-Za-z0-9][A-Za-z0-9.+~-]*"


def _check_deb(text: str) -> Problem:
    name, _, rest = text.partition("=")
    if re.fullmatch(rf"{_DEB_NAME}:[a-z0-9-]+", name):
        return "names an architecture", "packages are of the image's platform: leave it out"
    if re.fullmatch(rf"{_DEB_NAME}/[a-z-]+", name):
        return "names a release", "pin a version: name=version"
    if rest.startswith("="):
        return "has two equals signs", f"apt pins with one: {name}{rest}" if is_one_line(text) else ""
    if "*" in rest:
        return "has a wildcard in its version", "name the exact version, or no version: the lock pins it"
    if re.search(r"[<>]", text):
        return "is a range", "name the exact version, or no version: the lock pins it"
    return None


DEB = Text(
    what="a Debian package",
    pattern=rf"{_DEB_NAME}(?:={_DEB_VERSION})?",
    hint="like git or git=1:2.39.5-0+deb12u2",
    check=_check_deb,
)
SUITE = Text(what="a suite", pattern=r"[A-Za-z0-9][A-Za-z0-9._~/+-]*", hint="like bookworm or bookworm-backports")
APT_COMPONENT = Text(what="a component", pattern=r"[A-Za-z0-9][A-Za-z0-9._/+-]*", hint="like main or non-free")

# --- Python packages -------------------------------------------------------------------------------------------------

PACKAGE = Text(
    what="a package name",
    pattern=r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?",
    hint="a name alone, without a version (PEP 508)",
    tidy=canonicalize_name,
)
SOURCE_NAME = Text(
    what="a name for a source",
    pattern=r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?",
    hint="lower-case letters and digits, with . _ or - between them",
    check=lambda text: (
        ("is the default index, which is configuration and not part of a spec", "choose another name")
        if text == "default"
        else None
    ),
)

# --- what becomes part of the image's configuration ------------------------------------------------------------------


def _check_user(text: str) -> Problem:
    return ("is not a normal user", "leave it out to get one") if text == "root" else None


USER = Text(
    what="a user name",
    pattern=r"[a-z_][a-z0-9_-]{0,31}",
    hint="up to 32 lower-case letters, digits, _ and - (useradd(8))",
    check=_check_user,
)
VARIABLE = Text(
    what="the name of an environment variable",
    pattern=r"[A-Za-z_][A-Za-z0-9_]*",
    hint="letters, digits and _, no digit first",
)


def _check_value(text: str) -> Problem:
    if has_credentials(text):
        return (
            "has credentials in it, which would end up in every lock and image",
            "give them to the container when it runs (envlock run -e NAME)",
        )
    return check_line(text)


VALUE = Text(
    what="a value of one line",
    pattern=r"[^\x00-\x08\x0a-\x1f\x7f]*",
    hint="no line breaks and no control characters: a Dockerfile cannot hold them",
    check=_check_value,
    plain=True,
    longest=32_768,
)
WORD = Text(
    what="one argument", pattern=r"[^\x00-\x08\x0a-\x1f\x7f]+", hint="", check=check_line, plain=True, longest=4096
)
LABEL = Text(
    what="a label's name",
    pattern=r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?",
    hint="like org.example.team: letters and digits, with . _ / or - between them",
)
TITLE = Text(what="a name", pattern=r"[^\x00-\x1f\x7f]+", check=check_line, plain=True, longest=500)
