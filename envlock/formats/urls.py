"""Keeping passwords in URLs (RFC 3986, user information) out of whatever is written or shown."""

from __future__ import annotations

import re
from collections.abc import Iterable

_USER_INFORMATION = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#'\"]*@")
_SECRET_IN_QUERY = re.compile(r"(?P<name>[?&](?:[a-z_]*password|passwd|pwd|token|secret)=)[^&\s'\"]*", re.IGNORECASE)
_SHORTEST_SECRET = 4  # replacing shorter ones everywhere in a text would make it unreadable


def without_credentials(url: str) -> str:
    """Return a URL without user name, password, and passwords in its query."""
    return _SECRET_IN_QUERY.sub(r"\g<name>", _USER_INFORMATION.sub(r"\g<scheme>", url))


def scrub(text: str, *, secrets: Iterable[str] = ()) -> str:
    """Return a text for people, with every URL in it and every known secret made harmless."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return without_credentials(text)
