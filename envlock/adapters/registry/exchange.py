"""Requests that carry or bring blobs: any verb, streamed answers, patience with a registry that has a bad moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests

from envlock.adapters.docker_login import Credentials
from envlock.adapters.registry.client import Client, Patience, as_it_is, asked_pause, nobody_there
from envlock.adapters.registry.manifests import read_json
from envlock.errors import RegistryError
from envlock.formats.hosts import is_loopback
from envlock.formats.urls import scrub

_T = TypeVar("_T")

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY, SERVER = 401, 403, 404, 429, 500


class Passing(Exception):
    """The connection broke, or the registry answered 429 or 5xx: what was asked may work in a moment."""

    def __init__(
        self, message: str, *, cause: requests.RequestException | None = None, asked: float | None = None
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.asked = asked  # seconds that the registry wants us to wait


class Exchange(Client):
    """One registry, for one repository and what is uploaded to it; not for several threads at once.

    ``also`` are token scopes that are needed beside the ones that the registry's challenges name (a mount reads
    from another repository).
    """

    def __init__(
        self,
        registry: str,
        credentials: Credentials,
        *,
        path: str,
        pause: Callable[[float], None],
        base: str | None = None,
        also: Sequence[str] = (),
        patience: Patience = Patience(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(registry, credentials, pause=pause, base=base, patience=patience)
        self.path = path
        self._also = tuple(also)

    @property
    def name(self) -> str:
        """Return registry and repository, for messages."""
        return f"{self._registry}/{self.path}"

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        stream: bool = False,
        patience: float | None = None,
    ) -> requests.Response:
        """Make one request, and answer the challenge where there is one; ``url`` is absolute or below the registry.

        ``patience`` is how long the answer may take, in seconds, where that is longer than usual. With ``stream``
        whoever asks closes the answer. Raises ``Passing`` for what may work in a moment, ``RegistryError`` for what
        will not.
        """
        try:
            response = self._once(method, url, headers or {}, body, patience)
            if response.status_code == UNAUTHORIZED:
                challenge = response.headers.get("WWW-Authenticate", "")
                response.close()
                header = self._answer(challenge, self.path, urlsplit(response.url).scheme, also=self._also)
                if header is not None:
                    self._authorization[self.path] = header
                    response = self._once(method, url, headers or {}, body, patience)
            if not stream:
                with closing(response):
                    _ = response.content
        except requests.RequestException as error:
            if isinstance(error, requests.exceptions.SSLError) or nobody_there(error):
                raise self._unreachable(error) from error
            raise Passing(scrub(str(error))[:300], cause=error) from error
        return self._judged(response, method)

    def patiently(self, attempt: Callable[[], _T]) -> _T:
        """Try until it works or patience ends; raises what the last try found, as ``RegistryError``."""
        for pause in (*self.patience.pauses, None):
            try:
                return attempt()
            except Passing as error:
                if pause is None:
                    raise self.given_up(error) from error
                self._pause(error.asked or pause)
        raise AssertionError  # the last pause is None

    def given_up(self, error: Passing) -> RegistryError:
        """Return the error for a registry that does not recover."""
        if error.cause is not None:
            return self._unreachable(error.cause)
        return RegistryError(f"{self.name}: {error}", hint="try again later")

    def follow(self, other: Exchange) -> None:
        """Share what another exchange with the same repository has found out: token, and whether it is plain HTTP."""
        self._authorization = other._authorization
        self._bases = list(other._bases)

    def pause(self, seconds: float) -> None:
        """Wait between two tries."""
        self._pause(seconds)

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, patience: float | None
    ) -> requests.Response:
        """Make one request; on loopback, find out whether it is plain HTTP or not.

        Which of the two it is only an answer tells: a connection that breaks may have been a bad moment.
        """
        problems: list[requests.RequestException] = []
        for base in list(self._bases):
            try:
                response = self._to(base, method, url, headers, body, patience)
            except requests.RequestException as error:
                problems.append(error)
                continue
            if response.status_code == requests.codes.bad_request and base != self._bases[-1]:
                response.close()  # what a TLS server says to plain HTTP
                continue
            self._bases = [base]
            return response
        raise next((problem for problem in problems if "CERTIFICATE" in str(problem)), problems[0])

    def _to(  # noqa: PLR0917
        self, base: str, method: str, url: str, headers: Mapping[str, str], body: bytes, patience: float | None
    ) -> requests.Response:
        target = urljoin(base + "/", url)
        self._check(target)
        sent = {"Accept-Encoding": "identity", **headers}
        # An upload may be sent to another host, which has its own idea of who we are in its URL.
        if self.path in self._authorization and _server(target) == _server(base):
            sent["Authorization"] = self._authorization[self.path]
        connect, answer = self.patience.timeout
        timeout = (connect, max(answer, patience or 0))
        return self._session.request(
            method, target, headers=sent, data=body, auth=as_it_is, timeout=timeout, stream=True
        )

    def _check(self, target: str) -> None:
        parts = urlsplit(target)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise RegistryError(
                f"{self._registry} wants blobs sent to {scrub(target)[:100]}, without TLS", hint="tell its admin"
            )

    def _judged(self, response: requests.Response, method: str) -> requests.Response:
        status = response.status_code
        if status == TOO_MANY or status >= SERVER:
            response.close()
            raise Passing(f"the registry answered {status} {response.reason}", asked=asked_pause(response))
        if status in (UNAUTHORIZED, FORBIDDEN):
            response.close()
            doing = "read" if method in ("GET", "HEAD") else "write to"
            raise RegistryError(
                f"{self._registry} does not let us {doing} {self.path}",
                hint=f"log in: `docker login {self._account}`; is the account allowed to?",
            )
        return response


class Exchanges:
    """Exchanges with one repository: each is one thread's at a time, and kept for the next.

    What one has found out, those after it know: a token, and whether it is plain HTTP.
    """

    def __init__(self, make: Callable[[], Exchange]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._first: Exchange | None = None
        self._idle: list[Exchange] = []

    @contextmanager
    def one(self) -> Iterator[Exchange]:
        """Give an exchange that no other thread uses, one of before where there is any."""
        with self._lock:
            exchange = self._idle.pop() if self._idle else None
            if exchange is None:
                exchange = self._make()
                self._first = self._first or exchange
                exchange.follow(self._first)
        try:
            yield exchange
        finally:
            with self._lock:
                self._idle.append(exchange)

    def close(self) -> None:
        """End all connections that no thread uses any more."""
        with self._lock:
            idle, self._idle = self._idle, []
        for exchange in idle:
            exchange.close()


def _server(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port, which URLs may write in several ways (RFC 3986, 6.2.2 and 6.2.3)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def complaint(response: requests.Response) -> str:
    """Return what a registry says of a request that it refuses (OCI distribution spec, error codes)."""
    try:
        errors = read_json(response.content, "the answer").get("errors") or [{}]
        first = errors[0]
        words = " ".join(str(first.get(name) or "") for name in ("code", "message")).strip()
    except (RegistryError, AttributeError, KeyError, IndexError, TypeError):
        words = ""
    return scrub(f"{response.status_code} {response.reason}" + (f": {words[:200]}" if words else ""))
