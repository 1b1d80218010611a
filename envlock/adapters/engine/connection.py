"""The connection to the engine: made when first needed, with every fault on it in our words."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import docker
import docker.errors
import requests
from docker.auth import AuthConfig
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.tls import TLSConfig

from envlock.adapters.docker_login import Credentials, config_folder
from envlock.adapters.engine.endpoint import DEFAULT_SOCKET, Endpoint, find_endpoint
from envlock.adapters.engine.failures import Translate, reported
from envlock.adapters.engine.transport import SocketAdapter, Ssh, unix_opener
from envlock.errors import EngineError

OLDEST = (1, 41)  # API of Docker Engine 20.10
CONNECT_SECONDS = 15
ANSWER_SECONDS = 300  # removing or exporting something big takes an engine on a slow disk minutes


class Connection:
    """One engine, by the environment that names it; nothing happens before it is first asked something."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._client: Any = None
        self._ssh: Ssh | None = None
        self._endpoint: Endpoint | None = None
        self.layers: dict[str, tuple[str, ...]] = {}  # diff_ids by image ID, as far as somebody looked

    def login(self, registry: str) -> dict[str, str]:
        """Return the credentials for a registry as the engine wants them; empty where there are none."""
        found = Credentials(self._environment).find(registry)
        if found is None:
            return {}
        if not found.username:
            return {"identitytoken": found.password}
        return {"username": found.username, "password": found.password}

    @property
    def endpoint(self) -> Endpoint:
        """Return where the engine is; raises ``UsageError`` where the configuration makes no sense."""
        if self._endpoint is None:
            self._endpoint = find_endpoint(self._environment)
        return self._endpoint

    @property
    def api(self) -> Any:
        """Return the SDK's client, connected; raises ``EngineError`` where no usable engine answers."""
        with self._lock:
            if self._client is None:
                with self.reported("connecting"):
                    self._client = self._connect()
                weakref.finalize(self, self._client.close)
            return self._client

    @cached_property
    def keeps_blobs(self) -> bool:
        """Return whether it keeps each layer by itself (the containerd image store), and not by the stack below it."""
        api = self.api
        with self.reported("asking what it is"):
            about = api.info()
        return any("containerd.snapshotter" in str(row) for row in about.get("DriverStatus") or ())

    def reported(self, doing: str, *, also: Translate | None = None) -> AbstractContextManager[None]:
        """Return the context in which faults become ours; ``doing`` says what we were about, for the message."""
        return reported(
            self.endpoint, doing=doing, complaint=lambda: self._ssh.complaint() if self._ssh else "", also=also
        )

    @contextmanager
    def fresh(self) -> Iterator[Any]:
        """Give a client for one long answer; its connections end with the context.

        The SDK leaves the connection open where such an answer is not read to its end, and closing it is what makes the
        engine stop.
        """
        with self.reported("connecting"):
            client = self._connect()
        answers: list[requests.Response] = []
        client.hooks["response"].append(lambda response, **_: answers.append(response))
        try:
            yield client
        finally:
            for answer in answers:
                answer.close()
            client.close()

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connect(self) -> Any:
        client = self._raw_client()
        try:
            self._greet(client)
        except BaseException:
            client.close()
            raise
        return client

    def _greet(self, client: Any) -> None:
        client.trust_env = False  # no proxy, netrc or CA bundle meant for the web stands between us and the engine
        # Credentials are looked up where one is needed, and given to that one request. An empty configuration would
        # make the SDK read one by itself, and send all that it finds with each build.
        client._auth_configs = AuthConfig({"auths": {"registry.invalid": {}}})  # noqa: SLF001 - see above
        client.timeout = (CONNECT_SECONDS, CONNECT_SECONDS)
        answer = client.version(api_version=False)
        client.timeout = (CONNECT_SECONDS, ANSWER_SECONDS)
        offered = str(answer.get("ApiVersion", "0"))
        if _numbers(offered) < OLDEST:
            raise EngineError(
                f"the engine at {self.endpoint.host} is too old: {answer.get('Version')} (API {offered})",
                hint="Docker Engine 20.10 or newer is needed",
            )
        client._version = _lower(offered, DEFAULT_DOCKER_API_VERSION)  # noqa: SLF001 - set at construction only, and asking there would go past our timeouts

    def _raw_client(self) -> Any:
        endpoint = self.endpoint
        folder = config_folder(self._environment)
        environment = dict(self._environment)
        version = ".".join(map(str, OLDEST))
        if endpoint.scheme in ("ssh", "unix"):
            if endpoint.scheme == "ssh" and self._ssh is None:
                self._ssh = Ssh(endpoint.host)
                weakref.finalize(self, self._ssh.close)
            opener = self._ssh.connect if self._ssh else unix_opener(endpoint.host, timeout=CONNECT_SECONDS)
            client = docker.APIClient(base_url=DEFAULT_SOCKET, version=version, credstore_env=environment)
            client.mount("http+docker://", SocketAdapter(opener))
            return client
        if not endpoint.tls:
            return docker.APIClient(base_url=endpoint.host, version=version, credstore_env=environment)
        if endpoint.cert is None or endpoint.key is None:
            raise EngineError(
                f"no client certificate for the engine at {endpoint.host}",
                hint=f"cert.pem and key.pem are looked for in DOCKER_CERT_PATH or {folder}",
            )
        tls = TLSConfig(
            client_cert=(str(endpoint.cert), str(endpoint.key)),
            ca_cert=str(endpoint.ca) if endpoint.ca else None,
            verify=endpoint.verify,
        )
        return docker.APIClient(base_url=endpoint.host, version=version, tls=tls, credstore_env=environment)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def _lower(one: str, other: str) -> str:
    return min(one, other, key=_numbers)
