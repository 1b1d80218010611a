"""Starting the container of ``Engine.container``: which Python runs the agent, and with which rights."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker.errors

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.container import GatewayContainer, discard
from envlock.adapters.engine.failures import explanation
from envlock.adapters.engine.streams import Duplex, hijack, reader_of
from envlock.adapters.gateway import Gateway, agent_source
from envlock.errors import EngineError, InputError
from envlock.ports import Handler

PYTHONS = ("python3", "python", "/usr/local/bin/python3", "/opt/conda/bin/python", "/usr/bin/python3")
READY_SECONDS = 60

# What root needs to work on files that are not root's (apt's partial folders belong to _apt; dpkg sets owners and
# set-id bits). Nothing that changes users, mounts, traces, or reaches a network or device: apt has to run with
# APT::Sandbox::User=root, and the gateway's port is above 1024.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")

# The base may come with a proxy in its environment; the gateway is not behind it.
_ENVIRONMENT = {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}


@dataclass
class _Attempt:
    """One try at starting: what is there so far, so that it can be taken away again."""

    name: str
    gateway: Gateway | None = None
    duplex: Duplex | None = None
    stderr: bytearray = field(default_factory=bytearray)

    def close(self) -> None:
        if self.gateway is not None:
            self.gateway.close()
        if self.duplex is not None:
            self.duplex.close()


@contextmanager
def container(
    connection: Connection, image: str, *, handler: Handler | None, python: str | None, env: Mapping[str, str]
) -> Iterator[GatewayContainer]:
    """Start a container that lives as long as the context; see ``ports.Engine.container``."""
    api = connection.api
    complaints: list[str] = []
    for candidate in (python,) if python else PYTHONS:
        attempt = _Attempt(f"envlock-{secrets.token_hex(8)}")
        try:
            creation = _creation(api, attempt.name, image, candidate, env)
            with connection.reported("starting a container", also=no_image(image)):
                complaint = _start(api, attempt, creation, handler)
            if complaint is None and attempt.gateway is not None:
                yield GatewayContainer(connection, attempt.name, attempt.gateway)
                return
            complaints.append(f"{candidate}: {complaint}")
        finally:
            attempt.close()
            with connection.reported("removing a container"):
                discard(api, attempt.name)
    raise InputError(
        f"no Python 3.8 or newer runs in {image}",
        hint="choose a base that has a Python (`python:3.11-slim`, for example), or add one to it",
        details=complaints,
    )


def _start(api: Any, attempt: _Attempt, creation: dict[str, Any], handler: Handler | None) -> str | None:
    """Start the agent with this Python; return what is wrong with it, or None where all is well."""
    api.create_container(**creation)
    attempt.duplex = hijack(
        api, f"/containers/{attempt.name}/attach", params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    )
    receive = reader_of(attempt.duplex.frames(), stderr=attempt.stderr.extend)
    attempt.gateway = Gateway(handler, receive=receive, send=attempt.duplex.send)
    attempt.gateway.start()
    try:
        api.start(attempt.name)
    except docker.errors.APIError as error:
        if _cannot_execute(error):
            # runc's own words follow a tower of prefixes
            return explanation(error).rpartition("unable to start container process: ")[2]
        raise
    if attempt.gateway.wait_ready(READY_SECONDS):
        return None
    if not attempt.gateway.ended:
        raise EngineError("a container was started, and does not come up", hint="is the engine overloaded?")
    return attempt.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "ended at once"


def _creation(api: Any, name: str, image: str, python: str, env: Mapping[str, str]) -> dict[str, Any]:
    return {
        "image": image,
        "name": name,
        "entrypoint": [python, "-I", "-S", "-B", "-u", "-c", agent_source()],
        "command": [],
        "user": "0:0",
        "working_dir": "/",
        "environment": {**_ENVIRONMENT, **env},
        "stdin_open": True,
        "labels": {"envlock": "gateway"},
        "use_config_proxy": False,  # the user's proxy may hold a password, and there is no network to reach it
        "healthcheck": {"test": ["NONE"]},
        "host_config": api.create_host_config(
            auto_remove=True,
            network_mode="none",
            cap_drop=["ALL"],
            cap_add=list(CAPABILITIES),
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


def no_image(image: str) -> Any:
    """Return what knows the engine's words for an image that it does not have."""

    def translate(error: docker.errors.APIError) -> InputError | None:
        if isinstance(error, docker.errors.ImageNotFound) or "no such image" in explanation(error).lower():
            return InputError(f"the engine has no image {image}", hint="build it (`envlock build`) or pull it first")
        return None

    return translate
