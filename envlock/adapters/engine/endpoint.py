"""Where the engine is, decided as the docker command line decides it (docker CLI documentation, "docker context")."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envlock.adapters.docker_login import config_folder
from envlock.errors import UsageError
from envlock.formats.hosts import is_loopback

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
SCHEMES = ("unix", "tcp", "http", "https", "ssh", "npipe")


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """An engine's address, how it is secured, and what chose it (for messages)."""

    host: str  # URL: unix://, tcp://, https://, ssh://, npipe://; never with a password
    chosen_by: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    tls: bool = False
    verify: bool = True

    @property
    def scheme(self) -> str:
        """Return the kind of address."""
        return self.host.partition("://")[0]

    @property
    def is_here(self) -> bool:
        """Return whether the engine shares this machine's loopback, as far as its address says."""
        return self.scheme in ("unix", "npipe") or is_loopback(urlsplit(self.host).hostname or "")


def find_endpoint(environment: Mapping[str, str]) -> Endpoint:
    """Return the engine's address: ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context, or the default socket.

    Raises ``UsageError`` for an address or context that cannot be.
    """
    folder = config_folder(environment)
    if host := environment.get("DOCKER_HOST", "").strip():
        return _from_host(host, environment, folder)
    name = environment.get("DOCKER_CONTEXT", "").strip()
    chosen_by = "DOCKER_CONTEXT"
    if not name:
        chosen_by = str(folder / "config.json")
        name = str(_json(folder / "config.json").get("currentContext") or "default")
    if name == "default":
        return Endpoint(host=DEFAULT_SOCKET, chosen_by="the default")
    return _from_context(name, chosen_by, folder)


def _from_host(host: str, environment: Mapping[str, str], folder: Path) -> Endpoint:
    host = _checked(host, "DOCKER_HOST")
    if host.startswith(("unix:", "ssh:", "npipe:")):
        return Endpoint(host=host, chosen_by="DOCKER_HOST")
    # As the docker command line has it: any value of DOCKER_TLS_VERIFY, even "0", turns verification on.
    verify = bool(environment.get("DOCKER_TLS_VERIFY"))
    if not (verify or environment.get("DOCKER_TLS") or host.startswith("https:")):
        return Endpoint(host=host, chosen_by="DOCKER_HOST")
    certs = Path(environment.get("DOCKER_CERT_PATH") or folder)
    return Endpoint(host=host, chosen_by="DOCKER_HOST", tls=True, verify=verify, **_certificates(certs))


def _from_context(name: str, chosen_by: str, folder: Path) -> Endpoint:
    folder_name = hashlib.sha256(name.encode()).hexdigest()
    meta = _json(folder / "contexts" / "meta" / folder_name / "meta.json")
    docker = (meta.get("Endpoints") or {}).get("docker") or {}
    if not docker.get("Host"):
        raise UsageError(
            f"the Docker context {name!r} (from {chosen_by}) does not exist, or names no engine",
            hint="`docker context ls` shows what there is; `docker context use NAME` chooses, as DOCKER_CONTEXT does",
        )
    certs = _certificates(folder / "contexts" / "tls" / folder_name / "docker")
    return Endpoint(
        host=_checked(docker["Host"], f"context {name!r}"),
        chosen_by=f"context {name!r}",
        tls=bool(certs),
        verify=not docker.get("SkipTLSVerify", False),
        **certs,
    )


def _certificates(folder: Path) -> dict[str, Path]:
    return {field: path for field in ("ca", "cert", "key") if (path := folder / f"{field}.pem").is_file()}


def _checked(host: str, chosen_by: str) -> str:
    if "://" not in host:
        host = f"tcp://{host}"
    parts = urlsplit(host)
    if parts.scheme not in SCHEMES or not (parts.netloc or parts.path):
        shown = host.rpartition("@")[2]
        raise UsageError(
            f"{shown!r} (from {chosen_by}) is not the address of an engine",
            hint="addresses look like unix:///var/run/docker.sock, ssh://user@host or tcp://host:2376",
        )
    if parts.password is not None:
        raise UsageError(
            f"the engine's address from {chosen_by} holds a password",
            hint="use an ssh key or TLS certificates",
        )
    return host


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: cannot be read: {error}", hint="it is the docker command line's configuration"
        ) from error
    return data if isinstance(data, dict) else {}
