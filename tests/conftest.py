"""What all tests share: no test sees the settings of whoever runs it, and unit tests cannot leave this machine."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

LEAKING = ("PIP_", "MLFLOW_", "ENVLOCK_", "DOCKER_", "UV_", "GIT_", "SOURCE_DATE_EPOCH")
KEPT = ("PIP_CERT", "PIP_INDEX_URL", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test a home and caches of its own, and none of the caller's settings."""
    for name in list(os.environ):
        if name.startswith(LEAKING) and name not in KEPT and not name.startswith("ENVLOCK_TEST_"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))


@pytest.fixture(autouse=True)
def _stay_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a unit test that talks to anything but this machine's loopback."""
    if "unit" not in Path(str(request.node.path)).parts:
        yield
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if not _is_loopback(self, address):
            pytest.fail(f"a unit test connected to {address!r}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


def _is_loopback(connection: socket.socket, address: object) -> bool:
    if connection.family == socket.AF_UNIX:
        return not str(address).endswith("docker.sock")
    host = address[0] if isinstance(address, tuple) else ""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback
