"""Starting the container of ``Engine.container``: which Python runs the agent, and with which rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.container import GatewayContainer
from envlock.adapters.engine.piped import CannotStart, ContainerPipe, piped
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


@contextmanager
def container(
    connection: Connection, image: str, *, handler: Handler | None, python: str | None, env: Mapping[str, str]
) -> Iterator[GatewayContainer]:
    """Start a container that lives as long as the context; see ``ports.Engine.container``."""
    complaints: list[str] = []
    for candidate in (python,) if python else PYTHONS:
        with ExitStack() as stack:
            try:
                pipe = stack.enter_context(_piped(connection, image, candidate, env))
            except CannotStart as error:
                complaints.append(f"{candidate}: {error.message}")
                continue
            gateway = Gateway(handler, receive=pipe.receive, send=pipe.send)
            stack.callback(gateway.close)
            complaint = _complaint(gateway, pipe)
            if complaint is None:
                yield GatewayContainer(connection, pipe.container, gateway)
                return
        complaints.append(f"{candidate}: {complaint}")
    raise InputError(
        f"no Python 3.8 or newer runs in {image}",
        hint="choose a base that has a Python (`python:3.11-slim`, for example), or add one to it",
        details=complaints,
    )


def _piped(
    connection: Connection, image: str, python: str, env: Mapping[str, str]
) -> AbstractContextManager[ContainerPipe]:
    return piped(
        connection,
        image,
        [python, "-I", "-S", "-B", "-u", "-c", agent_source()],
        env={**_ENVIRONMENT, **env},
        capabilities=CAPABILITIES,
        label="gateway",
        writable=True,
    )


def _complaint(gateway: Gateway, pipe: ContainerPipe) -> str | None:
    """Return what is wrong with this Python, or None where the agent is up."""
    gateway.start()
    if gateway.wait_ready(READY_SECONDS):
        return None
    if not gateway.ended:
        raise EngineError("a container was started, and does not come up", hint="is the engine overloaded?")
    return next(reversed(pipe.complaints()), "ended at once")
