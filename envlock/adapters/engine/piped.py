"""A container whose first process is ours to talk to: its stdin and stdout are a pipe, and it ends with that."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import docker.errors

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.ending import discard
from envlock.adapters.engine.failures import explanation, no_image
from envlock.adapters.engine.streams import Duplex, hijack, reader_of
from envlock.errors import EngineError

_READING = ("DAC_OVERRIDE",)  # a program may be in a folder of somebody else's


class CannotStart(EngineError):
    """The program is not there, or cannot be executed."""


class ContainerPipe:
    """Implements ``ports.Pipe``."""

    def __init__(self, container: str, duplex: Duplex) -> None:
        self.container = container
        self._duplex = duplex
        self._stderr = bytearray()
        self._receive = reader_of(duplex.frames(), stderr=self._stderr.extend)

    def send(self, data: bytes) -> None:
        """Write to stdin."""
        self._duplex.send(data)

    def receive(self, size: int) -> bytes:
        """Return bytes of stdout; what breaks is an end, too."""
        try:
            return self._receive(size)
        except (OSError, ValueError):  # the stream was closed under us: the container is gone or going
            return b""

    def complaints(self) -> list[str]:
        """Return what came on stderr."""
        return self._stderr.decode(errors="replace").splitlines()

    def close(self) -> None:
        """Give it up; the connection ends with the context."""
        self._duplex.hang_up()


@contextmanager
def piped(
    connection: Connection,
    image: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    capabilities: Sequence[str] = _READING,
    label: str = "pipe",
    writable: bool = False,
) -> Iterator[ContainerPipe]:
    """Start a container; see ``ports.Engine.piped``. Raises ``CannotStart`` where the program is the reason."""
    api = connection.api
    name = f"envlock-{secrets.token_hex(8)}"
    duplex = None
    try:
        with connection.reported("starting a container", also=no_image(image)):
            config = _creation(api, image, argv, env, capabilities=capabilities, label=label, writable=writable)
            api.create_container(name=name, **config)
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            duplex = hijack(api, f"/containers/{name}/attach", params=params)
            _start(api, name, argv[0])
        yield ContainerPipe(name, duplex)
    finally:
        if duplex is not None:
            duplex.close()
        with connection.reported("removing a container"):
            discard(api, name)


def _start(api: Any, name: str, program: str) -> None:
    try:
        api.start(name)
    except docker.errors.APIError as error:
        if not _cannot_execute(error):
            raise
        # runc's own words follow a tower of prefixes
        words = explanation(error).rpartition("unable to start container process: ")[2]
        raise CannotStart(words, hint=f"is {program} what the image's Python is called?") from error


def _creation(
    api: Any,
    image: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    capabilities: Sequence[str],
    label: str,
    writable: bool,
) -> dict[str, Any]:
    return {
        "image": image,
        "entrypoint": list(argv),
        "command": [],
        "user": "0:0",
        "working_dir": "/",
        "environment": dict(env),
        "stdin_open": True,
        "labels": {"envlock": label},
        "use_config_proxy": False,  # the user's proxy may hold a password, and there is no network to reach it
        "healthcheck": {"test": ["NONE"]},
        "host_config": api.create_host_config(
            auto_remove=True,
            network_mode="none",
            read_only=not writable,
            cap_drop=["ALL"],
            cap_add=list(capabilities),
            security_opt=["no-new-privileges"],
            log_config={"type": "none"},  # stdout carries frames: the engine's disk is not the place for them
        ),
    }


def _cannot_execute(error: docker.errors.APIError) -> bool:
    words = explanation(error).lower()
    return any(
        sign in words
        for sign in ("executable file not found", "no such file or directory", "permission denied", "is a directory")
    )
