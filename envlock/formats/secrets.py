"""Keeping passwords that stand in environment variables out of what is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envlock.formats.urls import without_credentials

HIDDEN = "(hidden)"
_SECRET = re.compile(
    r"(?:.*_)?(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_KEY|PRIVATE_KEY)(?:_.*)?"
)


def is_secret(name: str) -> bool:
    """Return whether a variable of this name is likely to hold a password."""
    return _SECRET.fullmatch(name.upper()) is not None


def hide(env: Mapping[str, str]) -> dict[str, str]:
    """Return variables for people: no passwords, neither by name nor in URLs."""
    return {name: HIDDEN if is_secret(name) else without_credentials(value) for name, value in sorted(env.items())}
