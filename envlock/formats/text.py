"""Bytes of the user's files to text, and text of theirs in our messages."""

from __future__ import annotations

import json
import re
import unicodedata

from envlock.errors import Fault, SpecError

_SHOWN = 80  # characters of a value that a message repeats
_USERINFO = re.compile(r"//[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?]*)\?\S+")
_SECRET_NAME = re.compile(r"(?:^|_)(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?|AUTH)(?:_|$)", re.IGNORECASE)
_BREAKING = {"Cc", "Cs", "Zl", "Zp"}
_UNSHOWABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def decode(data: bytes, *, file: str, limit: int) -> str:
    """Return a file's text without its byte order mark; ``SpecError`` for other encodings and above ``limit`` bytes."""
    if len(data) > limit:
        message = f"has {len(data):,} bytes, which is more than the {limit:,} that such a file may have"
        raise SpecError([Fault(file=file, message=message)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        fault = Fault(file=file, line=line, column=column, message=message, hint="save the file as UTF-8")
        raise SpecError([fault]) from None


def quote(text: str) -> str:
    """Return a user's text as a message shows it: on one line, no control characters, short, without credentials."""
    text = _QUERY.sub(r"\1?***", _USERINFO.sub("//***@", text))
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1] + "…"
    return "".join(_shown(character) for character in json.dumps(text, ensure_ascii=False))


def has_credentials(text: str) -> bool:
    """Return whether there is a URL with userinfo (RFC 3986 §3.2.1) in a text."""
    return _USERINFO.search(text) is not None


def looks_secret(name: str) -> bool:
    """Return whether an environment variable of this name is likely to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def is_one_line(text: str) -> bool:
    """Return whether a text can stand on one line of a Dockerfile: no line breaks, no control characters but tabs."""
    return all(character == "\t" or unicodedata.category(character) not in _BREAKING for character in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) in _UNSHOWABLE:
        return character.encode("unicode_escape").decode("ascii")
    return character
