"""Requests to one registry: schemes, tokens, retries, and content that is what its digest says."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import NewConnectionError

from envlock.adapters.docker_login import Credentials, Login
from envlock.adapters.registry.manifests import read_json
from envlock.errors import RegistryError, UnknownImage
from envlock.formats.hosts import is_loopback
from envlock.formats.reference import DEFAULT_REGISTRY
from envlock.formats.urls import scrub

HUB = "registry-1.docker.io"  # where the grammar's default registry answers
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between tries
LONGEST_PAUSE = 30.0  # seconds that we wait where a registry says how long
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY, _BAD_REQUEST, _SERVER = 401, 403, 404, 429, 400, 500
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a registry is given."""

    timeout: tuple[float, float] = (10, 60)  # seconds to connect, and between two pieces of an answer
    pauses: tuple[float, ...] = PAUSES


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """What a registry sent, checked against its digest."""

    content: bytes
    content_type: str
    digest: str


class _Session(requests.Session):
    """Follows redirects without looking into ~/.netrc for who is at their end (see ``as_it_is``)."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Take the credentials of one host out of what is sent to another."""
        headers, before = prepared_request.headers, response.request.url or ""
        if "Authorization" in headers and self.should_strip_auth(  # type: ignore[no-untyped-call]
            before, prepared_request.url or ""
        ):
            del headers["Authorization"]


class Client:
    """One registry, or one mirror of the default registry (``base``: its URL)."""

    def __init__(
        self,
        registry: str,
        credentials: Credentials,
        *,
        pause: Callable[[float], None],
        base: str | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self.patience = patience
        self._registry = registry
        self._credentials = credentials
        self._pause = pause
        self._bases = [base] if base else _addresses(registry)
        # Credentials for the default registry are not for whoever mirrors it.
        self._account = urlsplit(base).netloc if base else registry
        self._authorization: dict[str, str] = {}  # repository → header
        self._session = _Session()

    def close(self) -> None:
        """End all connections."""
        self._session.close()

    def get(self, path: str, kind: str, target: str, *, accept: str = "*/*", limit: int) -> Blob:
        """Get a manifest or blob (``kind``) of a repository; ``limit`` in bytes.

        Raises ``UnknownImage`` where there is none, ``RegistryError`` for everything else.
        """
        where = f"{self._registry}/{path}"
        response, content = self._patiently(
            f"/v2/{path}/{kind}/{target}", path, accept=accept, limit=limit, where=where
        )
        status = response.status_code
        if status == _NOT_FOUND:
            raise UnknownImage(f"{self._registry} has no {target} of {path}", hint="check the image's name and tag")
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            raise RegistryError(
                f"{self._registry} does not let us read {path}",
                hint=f"check the name; if it is private, log in: `docker login {self._account}`",
            )
        if status != requests.codes.ok:
            raise RegistryError(
                f"{self._registry} answered {status} {response.reason} for {path}", hint="try again later"
            )
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        expected = target if target.startswith("sha256:") else response.headers.get("Docker-Content-Digest", digest)
        if digest != expected:
            raise RegistryError(
                f"{self._registry} sent wrong bytes for {path}: expected {expected}, found {digest}",
                hint="something between here and the registry changes what it sends: a proxy, or a broken mirror?",
            )
        return Blob(content=content, content_type=response.headers.get("Content-Type", ""), digest=digest)

    def _patiently(
        self, url: str, path: str, *, accept: str, limit: int, where: str
    ) -> tuple[requests.Response, bytes]:
        """Try, and try again where it makes sense (connection lost, 429, 5xx)."""
        for pause in (*self.patience.pauses, None):
            try:
                response, content = self._authorized(url, path, accept=accept, limit=limit, where=where)
            except requests.RequestException as error:
                # Who is not there now will not be there in a second; who hung up may be.
                if pause is None or isinstance(error, requests.exceptions.SSLError) or nobody_there(error):
                    raise self._unreachable(error) from error
                self._pause(pause)
                continue
            passing = response.status_code == _TOO_MANY or response.status_code >= _SERVER
            if pause is None or not passing:
                break
            self._pause(asked_pause(response) or pause)
        return response, content

    def _authorized(
        self, url: str, path: str, *, accept: str, limit: int, where: str
    ) -> tuple[requests.Response, bytes]:
        response, content = self._request(url, path, accept=accept, limit=limit, where=where)
        if response.status_code == _UNAUTHORIZED:
            challenge = response.headers.get("WWW-Authenticate", "")
            header = self._answer(challenge, path, urlsplit(response.url).scheme)
            if header and header != self._authorization.get(path):
                self._authorization[path] = header
                response, content = self._request(url, path, accept=accept, limit=limit, where=where)
        return response, content

    def _request(self, url: str, path: str, *, accept: str, limit: int, where: str) -> tuple[requests.Response, bytes]:
        """Make one request; on loopback, find out whether it is plain HTTP or not."""
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        if path in self._authorization:
            headers["Authorization"] = self._authorization[path]
        failure, refusal = None, None
        for base in self._bases:
            try:
                with self._session.get(
                    base + url, headers=headers, auth=as_it_is, timeout=self.patience.timeout, stream=True
                ) as response:
                    content = _read(response, limit, where)
            except requests.RequestException as error:
                failure = failure or error
                continue
            if len(self._bases) > 1 and response.status_code == _BAD_REQUEST:
                refusal = refusal or (response, content)  # what a TLS server says to plain HTTP; or it means it
                continue
            self._bases = [base]
            return response, content
        if refusal is not None:
            return refusal
        assert failure is not None  # noqa: S101 - there is an address, and it did not answer
        raise failure

    def _answer(self, challenge: str, path: str, scheme: str, *, also: Sequence[str] = ()) -> str | None:
        """Return the header that answers a challenge (RFC 9110, 11.6; distribution token authentication).

        ``also`` are scopes to ask for beside the challenge's own.
        """
        login = self._credentials.find(self._account)
        parameters = dict(_PARAMETER.findall(challenge))
        if challenge.lower().startswith("basic") and login is not None:
            if scheme == "https" or is_loopback(self._account.rpartition(":")[0] or self._account):
                return _basic(login)
        elif challenge.lower().startswith("bearer") and "realm" in parameters:
            return f"Bearer {self._token(parameters, path, login, also)}"
        return None

    def _token(self, parameters: Mapping[str, str], path: str, login: Login | None, also: Sequence[str] = ()) -> str:
        realm = parameters["realm"]
        parts = urlsplit(realm)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise RegistryError(
                f"{self._registry} wants us to log in at {scrub(realm)}, without TLS", hint="tell its admin"
            )
        scopes = [parameters.get("scope") or f"repository:{path}:pull", *also]
        service = {"service": parameters["service"]} if "service" in parameters else {}
        if login is not None and not login.username:
            # One field with all scopes in a form, one field for each in a query (distribution, token authentication).
            form = {
                **service,
                "scope": " ".join(scopes),
                "grant_type": "refresh_token",
                "refresh_token": login.password,
                "client_id": "envlock",
            }
            response = self._session.post(realm, data=form, auth=as_it_is, timeout=self.patience.timeout)
        else:
            headers = {"Authorization": _basic(login)} if login is not None else {}
            query = {**service, "scope": scopes}
            response = self._session.get(
                realm, params=query, headers=headers, auth=as_it_is, timeout=self.patience.timeout
            )
        if response.status_code in (_UNAUTHORIZED, _FORBIDDEN):
            raise RegistryError(
                f"{self._registry} does not accept our login", hint=f"log in again: `docker login {self._account}`"
            )
        response.raise_for_status()
        data = read_json(response.content, f"the token of {self._registry}")
        return str(data.get("token") or data.get("access_token") or "")

    def _unreachable(self, error: requests.RequestException) -> RegistryError:
        where = f"{self._registry} (mirror {self._account})" if self._account != self._registry else self._registry
        if isinstance(error, requests.exceptions.SSLError):
            return RegistryError(
                f"{where} has a certificate that this machine does not trust",
                hint="name the CA that signed it in REQUESTS_CA_BUNDLE",
            )
        return RegistryError(
            f"{where} cannot be reached from this machine",
            hint="is it running, and does a proxy stand in between (HTTPS_PROXY)?",
            details=[scrub(str(error))[:300]],
        )


def _addresses(registry: str) -> list[str]:
    """Return where to look: plain HTTP is for loopback only, as engines have it."""
    if registry == DEFAULT_REGISTRY:
        return [f"https://{HUB}"]
    host = urlsplit(f"//{registry}").hostname or ""
    return [f"http://{registry}", f"https://{registry}"] if is_loopback(host) else [f"https://{registry}"]


def _read(response: requests.Response, limit: int, where: str) -> bytes:
    content = bytearray()
    for block in response.iter_content(64 << 10):
        content += block
        if len(content) > limit:
            raise RegistryError(f"{where}: the registry sends more than {limit} bytes of metadata", hint="is it one?")
    return bytes(content)


def nobody_there(error: requests.RequestException) -> bool:
    """Return whether nothing listens there: that does not change in a second."""
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", None), NewConnectionError)


def asked_pause(response: requests.Response) -> float | None:
    """Return how long a registry wants us to wait, in seconds, as far as we do."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else None


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from looking into ~/.netrc: a registry's credentials are Docker's."""
    return request
