"""Installing .debs in a container of the base, and taking out what that changed (``system.Installer``)."""

from __future__ import annotations

import json
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import IO, Any

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.ending import discard
from envlock.adapters.engine.failures import disk_full, is_disk_full, no_image
from envlock.adapters.engine.files import stream_of, tar_of
from envlock.adapters.engine.lines import Lines
from envlock.adapters.engine.streams import STDERR, Duplex, hijack
from envlock.errors import BuildFailed, EngineError, EnvlockError
from envlock.formats.urls import scrub

HOSTNAME = "envlock"  # some packages' scripts write the host's name into their configuration: always the same one

_KEPT_LINES = 200
_BLOCK = 256 << 10
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


@contextmanager
def installed(
    connection: Connection,
    image: str,
    files: Mapping[str, Path],
    *,
    python: str,
    argv: Sequence[str],
    check: Sequence[str],
    folders: Sequence[str],
    env: Mapping[str, str],
    on_line: Callable[[str], None],
) -> Iterator[IO[bytes]]:
    """Give the tar of what running ``argv`` changes in a container of the image; see ``system.Installer``.

    The container has the rights that a builder's step has, and no network. It ends with this process, however that
    ends. Raises ``BuildFailed`` with the program's last lines where that fails, ``EngineError``.
    """
    api = connection.api
    name = f"envlock-{secrets.token_hex(8)}"
    task = json.dumps({"argv": list(argv), "check": list(check), "folders": list(folders)})
    try:
        with connection.reported("starting a container", also=no_image(image)):
            api.create_container(**_creation(api, name, image, [python, "-I", "-S", "-B", "-c", _source(), task], env))
            duplex = hijack(api, f"/containers/{name}/attach", params=dict.fromkeys(_STREAMS, 1))
        output = _Output(duplex, on_line)
        try:
            with connection.reported("installing system packages"):
                api.start(name)
                output.wait_ready()
                api.put_archive(name, "/", tar_of(files))
                duplex.send(b"go\n")
                stream = stream_of(output.blocks())
                yield stream
                while stream.read(_BLOCK):  # what is after the tar's end says whether it is whole
                    pass
        finally:
            duplex.close()
    finally:
        with suppress(EngineError), connection.reported("removing a container"):
            discard(api, name)


_STREAMS = ("stdin", "stdout", "stderr", "stream")


def _source() -> str:
    return resources.files("envlock.adapters.engine").joinpath("install_agent.py").read_text(encoding="utf-8")


def _creation(api: Any, name: str, image: str, command: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    return {
        "image": image,
        "name": name,
        "hostname": HOSTNAME,
        "entrypoint": command,
        "command": [],
        "user": "0:0",
        "working_dir": "/",
        "environment": dict(env),
        "stdin_open": True,
        "labels": {"envlock": "install"},
        "use_config_proxy": False,
        "healthcheck": {"test": ["NONE"]},
        "host_config": api.create_host_config(auto_remove=True, network_mode="none", log_config={"type": "none"}),
    }


class _Output:
    """What the agent writes: a tar on stdout; on stderr ``ready``, the installer's lines, and at last ``complete``."""

    def __init__(self, duplex: Duplex, on_line: Callable[[str], None]) -> None:
        self._frames = duplex.frames()
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._stderr = Lines(self._line)
        self._ready = self._complete = False

    def wait_ready(self) -> None:
        """Return when the agent waits for its files; raises ``EngineError`` where it does not come up."""
        for stream, data in self._frames:
            if stream == STDERR:
                self._stderr.add(data)
            if self._ready:
                return
        self._stderr.finish()
        raise EngineError("a container for system packages does not start", details=list(self._lines)[-5:])

    def blocks(self) -> Iterator[bytes]:
        """Yield the tar; raises ``BuildFailed`` at its end where the agent did not get to its own."""
        for stream, data in self._frames:
            if stream == STDERR:
                self._stderr.add(data)
            else:
                yield data
        self._stderr.finish()
        if not self._complete:
            raise self._failure()

    def _line(self, line: str) -> None:
        if line == "ready" and not self._ready:
            self._ready = True
        elif line == "complete":
            self._complete = True
        else:
            self._complete = False
            self._lines.append(scrub(_CONTROL.sub("", line)))
            self._on_line(self._lines[-1])

    def _failure(self) -> EnvlockError:
        lines = [line for line in self._lines if line.strip()]
        if any(is_disk_full(line) for line in lines[-20:]):
            return disk_full("installing system packages", lines[-1], details=lines)
        why = lines.pop() if lines else "the container ended without a word: was it killed, or was memory short?"
        return BuildFailed(f"system packages could not be installed: {why}", details=lines)
