"""Taking containers away."""

from __future__ import annotations

import time
from typing import Any

import docker.errors

_SECONDS = 20


def discard(api: Any, name: str) -> None:
    """Remove a container, whatever state it is in; returns when it is gone."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            api.remove_container(name, force=True, v=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.response is None or error.response.status_code != 409:  # noqa: PLR2004 - "already in progress"
                raise
            time.sleep(0.02)
