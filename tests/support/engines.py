"""Small images and questions for tests on the real engine."""

from __future__ import annotations

import io
import secrets
import subprocess
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
    """Return all images newer than the base, also those without a name, that a step with this word made."""
    found = []
    newer = docker("images", "--all", "--quiet", "--no-trunc", "--filter", f"since={BASE}").split()
    for image in sorted(set(newer)):
        try:
            steps = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
        except subprocess.CalledProcessError:
            continue  # somebody else's, gone meanwhile
        if word in steps:
            found.append(image)
    return found
