"""A registry for one run, with nothing in it; where there is no program for one, the machine's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.measure import say

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_OWN = ("127.0.0.1", 5000)
_PATIENCE = 20  # seconds


@contextmanager
def registry(folder: Path) -> Iterator[tuple[str, int]]:
    """Give a registry's address."""
    program = _program()
    if program is None:
        say("no docker-registry here: what is pushed stays in the registry of this machine")
        yield _OWN
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    root, config = folder / "registry", folder / "registry.yml"
    root.mkdir()
    config.write_text(_CONFIG.format(root=root, port=port))
    process = subprocess.Popen(
        [program, "serve", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port)
        yield "127.0.0.1", port
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        process.kill()
        process.wait()
        shutil.rmtree(root, ignore_errors=True)


def _wait(port: int) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)


def _program() -> str | None:
    state = Path(os.environ.get("ENVLOCK_DEV_STATE", "/var/lib/envlock-dev"))
    return shutil.which("docker-registry", path=f"{os.environ['PATH']}:{state}/docker-registry/usr/bin")
