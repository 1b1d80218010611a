"""Running a user's command in an image: ``Engine.run``."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import docker.errors
from docker.types import DeviceRequest

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.ending import discard
from envlock.adapters.engine.failures import explanation
from envlock.adapters.engine.streams import STDERR, Duplex, hijack
from envlock.errors import EngineError, EnvlockError, InputError, UnknownImage

# Data loaders hand batches over in shared memory; the engine's own 64 MiB ends them with a bus error. It is a limit,
# not a reservation.
_SHARED_MEMORY = "2g"
GRACE_SECONDS = 10  # that a command has after Ctrl-C, before it is killed


def run(
    connection: Connection,
    image: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    volumes: Mapping[str, str],
    network: str | None,
    gpus: bool,
    on_output: Callable[[bytes, bool], None],
) -> int:
    """Run a command to its end and return its exit code; see ``ports.Engine.run``."""
    api = connection.api
    name = f"envlock-run-{secrets.token_hex(8)}"
    try:
        with connection.reported(f"running {argv[0]}", also=_translator(image, argv[0], network)):
            api.create_container(
                **_creation(api, name, image, argv, env=env, volumes=volumes, network=network, gpus=gpus)
            )
            duplex = hijack(api, f"/containers/{name}/attach", params={"stdout": 1, "stderr": 1, "stream": 1})
            try:
                api.start(name)
                _follow(api, name, duplex, on_output)
                return int(api.wait(name)["StatusCode"])
            finally:
                duplex.close()
    finally:
        with suppress(EnvlockError), connection.reported("removing a container"):
            discard(api, name)


def _follow(api: Any, name: str, duplex: Duplex, on_output: Callable[[bytes, bool], None]) -> None:
    """Pass the output on; Ctrl-C asks the command to end, and gives it a moment to save what it has.

    The reading is a thread's work, so that an interruption cannot fall into the middle of a frame.
    """
    failures: list[BaseException] = []
    ended = threading.Event()  # not the thread's join(): interrupted once, it takes the thread for dead

    def pump() -> None:
        try:
            for stream, data in duplex.frames():
                on_output(data, stream == STDERR)
        except (OSError, ValueError) as error:
            failures.append(error)
        finally:
            ended.set()

    threading.Thread(target=pump, daemon=True).start()
    try:
        ended.wait()
    except KeyboardInterrupt:
        for signal in ("SIGINT", "SIGTERM"):
            with suppress(docker.errors.APIError):
                api.kill(name, signal=signal)
            if ended.wait(GRACE_SECONDS / 2):
                break
        raise
    if failures:
        raise failures[0]


def _creation(
    api: Any,
    name: str,
    image: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    volumes: Mapping[str, str],
    network: str | None,
    gpus: bool,
) -> dict[str, Any]:
    return {
        "image": image,
        "name": name,
        "command": list(argv),
        "environment": dict(env),
        "detach": False,
        "labels": {"envlock": "run"},
        "use_config_proxy": True,
        "host_config": api.create_host_config(
            binds=[f"{source}:{target}" for source, target in volumes.items()],
            network_mode=network,
            shm_size=_SHARED_MEMORY,
            device_requests=[DeviceRequest(count=-1, capabilities=[["gpu"]])] if gpus else None,
        ),
    }


def _translator(
    image: str, program: str, network: str | None
) -> Callable[[docker.errors.APIError], EnvlockError | None]:
    def translate(error: docker.errors.APIError) -> EnvlockError | None:
        words = explanation(error)
        lower = words.lower()
        if isinstance(error, docker.errors.ImageNotFound) or "no such image" in lower:
            return UnknownImage(f"the engine has no image {image}", hint="build it with `envlock build`, or pull it")
        if "could not select device driver" in lower or "nvidia-container-cli" in lower:
            return EngineError(
                f"the engine has no GPU for us: {words}",
                hint="install the NVIDIA Container Toolkit on its machine, or leave --gpus out",
            )
        if (
            "executable file not found" in lower
            or f'"{program.lower()}": stat' in lower
            or f"{program.lower()}: no such file" in lower
        ):
            return InputError(f"there is no {program} in {image}", hint="the command is looked for in the image's PATH")
        if network and "network" in lower and "not found" in lower:
            return InputError(f"the engine has no network {network}", hint="`docker network ls` shows what there is")
        if any(sign in lower for sign in ("invalid mount", "invalid volume", "invalid bind")):
            return InputError(f"a volume cannot be: {words}", hint="--volume takes HOST:CONTAINER, both absolute")
        return None

    return translate
