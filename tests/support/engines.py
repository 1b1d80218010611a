"""Small images and questions for tests on the real engine."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import Callable

Docker = Callable[..., str]

BASE = "envlock/base:py3.11"
NO_PYTHON = "debian:bookworm-slim"


def context(dockerfile: str, **files: bytes) -> io.BytesIO:
    """Return a build context."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in {"Dockerfile": dockerfile.encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def mark() -> str:
    """Return a word that nothing else has: in a command, it tells a test's own containers and images."""
    return f"mark{secrets.token_hex(6)}"


def containers_with(docker: Docker, word: str) -> list[str]:
    """Return the containers, in any state, whose command has this word."""
    lines = docker("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Command}}").splitlines()
    return [line.split()[0] for line in lines if word in line]


def images_with(docker: Docker, word: str) -> list[str]:
    """Return all images, also those without a name, that a step with this word made."""
    found = []
    for image in sorted(set(docker("images", "--all", "--quiet", "--no-trunc").split())):
        try:
            newest = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).splitlines()
        except Exception:  # noqa: BLE001 - somebody else's, gone meanwhile
            continue
        if any(word in line for line in newest):
            found.append(image)
    return found
