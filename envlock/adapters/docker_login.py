"""The credentials that ``docker login`` keeps: config.json, credential stores and helpers, through the SDK."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker.auth
import docker.credentials.errors
import docker.errors

from envlock.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and password, or an identity token (then the name is empty)."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Login(…)"  # nothing that prints a local variable shows a password


def config_folder(environment: Mapping[str, str]) -> Path:
    """Return the docker command line's folder: ``$DOCKER_CONFIG``, else ``~/.docker``."""
    chosen = environment.get("DOCKER_CONFIG")
    if chosen:
        return Path(chosen)
    try:
        home = Path(environment.get("HOME") or Path.home())
    except RuntimeError:  # a number that no user has, as containers may run with
        home = Path("/")
    return home / ".docker"


class Credentials:
    """What ``docker login`` knows, read when first asked."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._folder = config_folder(environment)
        self._environment = dict(environment)

    def find(self, registry: str) -> Login | None:
        """Return the login for a registry; raises ``RegistryError`` where a helper is missing or fails."""
        file = self._folder / "config.json"
        try:
            if not file.is_file():
                return None
        except OSError as error:
            raise RegistryError(
                f"the credentials for {registry} in {file} cannot be had",
                hint="may you read that folder? DOCKER_CONFIG names another one",
                details=[error.strerror or str(error)],
            ) from error
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the SDK, about a missing helper: it is an error below
                config = docker.auth.load_config(config_path=str(file), credstore_env=self._environment)
                found = config.resolve_authconfig(registry)
        except (docker.errors.DockerException, docker.credentials.errors.StoreError, ValueError, OSError) as error:
            raise RegistryError(
                f"the credentials for {registry} in {file} cannot be had",
                hint="is the credential helper that it names installed? `docker login` writes a new entry",
                details=[str(error).splitlines()[0] if str(error) else type(error).__name__],
            ) from error
        if not found:
            return None
        token = found.get("IdentityToken") or found.get("identitytoken")
        if token:
            return Login("", str(token))
        name, password = found.get("Username") or found.get("username"), found.get("Password") or found.get("password")
        return Login(str(name), str(password)) if name and password else None
