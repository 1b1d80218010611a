"""The forms of every URL and path that a spec may hold; patterns as in ``names``."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from envlock.formats.kinds import Problem, Text
from envlock.formats.names import HOST, check_line
from envlock.formats.text import has_credentials

_URL_PATH = r"(?:/[A-Za-z0-9._~%+=,:@/-]*)?"
_WEB = rf"https?://{HOST}(?::[0-9]{{1,5}})?"


def _check_url(text: str) -> Problem:
    if has_credentials(text):
        return (
            "has credentials in it, which would end up in every lock and image",
            "leave them out, and put them into netrc, a keyring or pip's own configuration",
        )
    if re.match(r"[a-z][a-z0-9+.-]*://", text) and ("?" in text or "#" in text):
        return "has a query or fragment", "a URL here ends with its path; tokens belong into netrc or a keyring"
    return None


INDEX_URL = Text(
    what="the URL of a package index",
    pattern=rf"(?:{_WEB}|file://){_URL_PATH}",
    hint="http, https or file, like https://packages.example.org/simple",
    check=_check_url,
)
WEB_URL = Text(
    what="an http or https URL", pattern=_WEB + _URL_PATH, hint="like https://apt.example.org/debian", check=_check_url
)
SNAPSHOT_URL = Text(
    what="the URL template of an archive's snapshots",
    pattern=rf"{_WEB}/(?:[A-Za-z0-9._~%+=,:@/-]|\{{archive\}})*\{{timestamp\}}(?:[A-Za-z0-9._~%+=,:@/-]|\{{archive\}})*",
    hint="with {timestamp} in its path, like https://snapshot.example.org/archive/{archive}/{timestamp}",
    check=_check_url,
)


def _check_tracking(text: str) -> Problem:
    try:
        parts = urlsplit(text)
    except ValueError:
        return "is not a URL", ""
    if parts.username or parts.password or has_credentials(text):
        return (
            "has credentials in it, which would end up in every lock and image",
            "leave it out, and set MLFLOW_TRACKING_URI (and MLFLOW_TRACKING_USERNAME, …) where envlock runs",
        )
    return None


TRACKING_URI = Text(
    what="an MLflow tracking URI",
    pattern=r"[A-Za-z0-9._~%+=,:@/?&-]+",
    hint="like https://mlflow.example.org or sqlite:///mlflow.db",
    check=_check_tracking,
)


def _check_relative(text: str) -> Problem:
    if text.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", text):
        return "is not a relative path", "paths are relative to the spec, so that it works on every machine"
    if "://" in text:
        return "is a URL", "put the file beside the spec and name its path"
    return check_line(text)


RELATIVE_PATH = Text(
    what="a path relative to the spec",
    pattern=r"""[^/~\x00-\x1f\x7f$`"'\\;|&<>*?{}!][^\x00-\x1f\x7f$`"'\\;|&<>*?{}!]*""",
    hint="with / between its parts, and no characters that mean something to a shell",
    check=_check_relative,
)


def _check_pattern(text: str) -> Problem:
    if ".." in text.split("/"):
        return "leaves the project's folder", "put the spec where everything that goes into the image is below it"
    return check_line(text)


FILE_PATTERN = Text(
    what="a file pattern",
    pattern=r"""[^\x00-\x1f\x7f$`"';|&<>]+""",
    hint="as in .gitignore, relative to the spec: src, *.py, configs/**",
    check=_check_pattern,
)


# Filesystem Hierarchy Standard 3.0: with all that is below, and only the folder itself
_SYSTEM = frozenset({"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys"})
_SHARED = frozenset(
    f"/{name}"
    for name in (
        *("home", "media", "mnt", "opt", "root", "srv", "tmp", "usr", "var"),
        *(
            "usr/bin",
            "usr/include",
            "usr/lib",
            "usr/lib64",
            "usr/libexec",
            "usr/local",
            "usr/sbin",
            "usr/share",
            "usr/src",
        ),
        *("usr/local/bin", "usr/local/lib", "usr/local/sbin", "var/cache", "var/lib", "var/log", "var/tmp"),
    )
)


def _check_workdir(text: str) -> Problem:
    parts = text.split("/")[1:]
    if not text.startswith("/"):
        return "is not an absolute path", "like /workspace"
    if "." in parts or ".." in parts:
        return "has . or .. in it", ""
    taken = [folder for folder in ("/opt/venv", "/opt/envlock") if text == folder or text.startswith(f"{folder}/")]
    if taken:
        return f"is inside {taken[0]}, which is envlock's own", "choose another, like /workspace"
    # it becomes the user's own: a folder that programs of the base trust must not
    if parts[0] in _SYSTEM or text in _SHARED:
        return "is a folder of the system", "choose one of your own, like /workspace or /srv/train"
    return None


WORKDIR = Text(
    what="a folder of the image",
    pattern=r"(?:/[A-Za-z0-9._@+-]+)+",
    hint="an absolute path of letters, digits and . _ @ + -",
    check=_check_workdir,
)
