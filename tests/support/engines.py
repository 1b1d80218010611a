"""Small images and questions for tests on the real engine."""

from __future__ import annotations

import io
import secrets
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import suppress

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
    newer = sorted(set(docker("images", "--all", "--quiet", "--no-trunc", "--filter", f"since={BASE}").split()))
    if not newer:
        return []
    # One question about all of them; those that are gone meanwhile, for they are somebody else's, only make it fail.
    argv = ["docker", "image", "inspect", "--format", "{{.Id}} {{json .}}", *newer]
    lines = subprocess.run(argv, check=False, capture_output=True, text=True).stdout.splitlines()
    told = dict(line.split(" ", 1) for line in lines)
    without = [image for image in told if '"ContainerConfig":' not in told[image]]  # engines from 29 on
    for image in without:
        with suppress(subprocess.CalledProcessError):
            told[image] = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    return [image for image in newer if word in told.get(image, "")]
