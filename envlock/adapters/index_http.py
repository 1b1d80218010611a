"""GET requests to package indexes: proxies and certificates as pip is configured, credentials, retries, resumption."""

from __future__ import annotations

import random
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from envlock import __version__
from envlock.adapters.credentials import Credentials, split_credentials
from envlock.adapters.pip_configuration import PipSettings
from envlock.errors import IndexFailed, InputError
from envlock.formats.urls import scrub

TRIES = 6  # pip's own default: the first one and five more
_WORTH_ANOTHER_TRY = (429, 500, 502, 503, 504, 520, 527)
_LONGEST_WAIT = 30.0  # seconds, whatever Retry-After says
_REDIRECTS = 10
_BLOCK = 256 * 1024  # bytes
_CONNECTIONS = 32  # kept open to one host; more threads than that never ask at once
_BROKEN = (
    requests.ConnectionError,  # its subclasses are connect timeouts and TLS failures, too
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.HTTPError,
)


class _Adapter(HTTPAdapter):
    """Connections with one TLS context for all: reading a bundle of certificates takes longer than many a request."""

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        self._context = context
        super().__init__(pool_maxsize=_CONNECTIONS)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: Any = None
    ) -> tuple[Any, Any]:
        """Give connections the context in the place of file names."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"ssl_context": self._context()} if host["scheme"] == "https" else {}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave it to the context."""


class _Once:
    """A context that is made when the first connection needs it; safe to call from several threads."""

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


def tls_context(settings: PipSettings, *, trusted: bool) -> ssl.SSLContext:
    """Return how servers are known; ``trusted`` is for hosts that the user trusts whoever they are.

    Raises ``InputError`` where a file that pip's configuration names cannot be used.
    """
    context = create_urllib3_context()
    bundle = Path(settings.ca_bundle or DEFAULT_CA_BUNDLE_PATH)
    try:
        if trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif bundle.is_dir():
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert)
    except OSError as error:  # ssl.SSLError is one
        named = " or ".join(filter(None, [str(bundle), settings.client_cert]))
        raise InputError(
            f"the certificates {named} cannot be used: {error}",
            hint="it is named by PIP_CERT, PIP_CLIENT_CERT, REQUESTS_CA_BUNDLE, SSL_CERT_FILE or pip's configuration",
        ) from error
    return context


class IndexHttp:
    """One per process; any number of threads may ask at once, and connections are kept open."""

    def __init__(
        self, settings: PipSettings, *, credentials: Credentials, environ: Mapping[str, str], pause: float = 0.5
    ) -> None:
        self._settings = settings
        self.credentials = credentials
        self._proxies = _proxies(settings, environ)
        self._no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        self._pause = pause  # seconds before the second try; doubles with each
        contexts = {trusted: _Once(partial(tls_context, settings, trusted=trusted)) for trusted in (False, True)}
        self._adapters = {trusted: _Adapter(context) for trusted, context in contexts.items()}
        self._local = threading.local()
        if settings.trusted_hosts:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    @contextmanager
    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Iterator[requests.Response]:
        """Give the answer to a GET, whatever its status, its body unread; raises ``IndexFailed`` after all tries."""
        response = self._get(url, dict(headers or {}))
        try:
            yield response
        finally:
            response.close()

    @contextmanager
    def read(
        self, url: str, *, headers: Mapping[str, str] | None = None, only: HTTPStatus | None = None
    ) -> Iterator[tuple[requests.Response, bytes]]:
        """Give an answer with its whole body (``only``: of this status, else b""); it may drop half-way a few times."""
        for attempt in range(TRIES):
            with self.get(url, headers=headers) as response:
                try:
                    content = response.content if only is None or response.status_code == only else b""
                except _BROKEN as error:
                    self._wait_or_fail(url, attempt, error)
                    continue
                yield response, content
                return

    @contextmanager
    def stream(self, url: str) -> Iterator[Iterator[bytes]]:
        """Give a file's blocks; where the connection drops, the rest is asked for (RFC 9110, range requests)."""
        with self.get(url, headers={"Accept-Encoding": "identity"}) as response:
            self.check(response, url)
            blocks = self._blocks(url, response)
            try:
                yield blocks
            finally:
                blocks.close()

    def check(self, response: requests.Response, url: str) -> None:
        """Raise ``IndexFailed`` for an answer that is not a success."""
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return
        hint = ""
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            hint = (
                "give credentials as for pip: in the index-url of pip's configuration, in ~/.netrc or in keyring"
                if self.credentials.login(url) is None
                else "its credentials come from pip's index-url, ~/.netrc or keyring: check them there"
            )
        raise IndexFailed(
            f"{self.clean(url)} answered HTTP {response.status_code} {self.clean(response.reason or '')}".rstrip(),
            hint=hint,
        )

    def clean(self, text: str) -> str:
        """Return a text without any credential in it."""
        return scrub(text, secrets=self.credentials.secrets())

    def _blocks(self, url: str, response: requests.Response) -> Generator[bytes, None, None]:
        done, attempt = 0, 0
        etag = response.headers.get("ETag")
        total = response.headers.get("Content-Length")
        while True:
            try:
                for block in response.iter_content(_BLOCK):
                    done += len(block)
                    yield block
                if total is None or done >= int(total):
                    return
                error: Exception = requests.ConnectionError("the connection ended early")
            except _BROKEN as broken:
                error = broken
            finally:
                response.close()
            self._wait_or_fail(url, attempt, error)
            attempt += 1
            response = self._rest(url, done, etag)

    def _rest(self, url: str, done: int, etag: str | None) -> requests.Response:
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={done}-"}
        if etag and not etag.startswith("W/"):
            headers["If-Range"] = etag
        response = self._get(url, headers)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            self.check(response, url)
            # the whole file again: pass over what is here already
            skipped = 0
            while skipped < done:
                block = response.raw.read(min(_BLOCK, done - skipped))
                if not block:
                    break
                skipped += len(block)
        return response

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        self._refuse_plain(url)
        for attempt in range(TRIES):
            try:
                response = self._send(url, headers)
            except _BROKEN as error:
                self._wait_or_fail(url, attempt, error)
                continue
            except requests.RequestException as error:
                raise IndexFailed(f"{self.clean(url)} cannot be asked: {self.clean(str(error))}") from None
            if response.status_code not in _WORTH_ANOTHER_TRY or attempt == TRIES - 1:
                return response
            response.close()
            self._wait(attempt, response.headers.get("Retry-After", ""))
        raise AssertionError("unreachable")

    def _send(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Follow redirects by hand: each host is judged, and given credentials, for itself."""
        start = url
        for _ in range(_REDIRECTS):
            response = self._authorized(url, headers)
            if not response.is_redirect:
                return response
            response.close()
            url = split_credentials(urljoin(url, response.headers["Location"]))[0]
            self._refuse_plain(url)
        raise IndexFailed(f"{self.clean(start)} is redirected more than {_REDIRECTS} times")

    def _authorized(self, url: str, headers: dict[str, str]) -> requests.Response:
        response = self._ask(url, headers, self.credentials.login(url))
        if response.status_code == HTTPStatus.UNAUTHORIZED and (other := self.credentials.refused(url)):
            response.close()
            response = self._ask(url, headers, other)
        return response

    def _ask(self, url: str, headers: dict[str, str], login: tuple[str, str] | None) -> requests.Response:
        auth = HTTPBasicAuth(login[0].encode(), login[1].encode()) if login else None
        host = urlsplit(url).hostname or ""
        bypass = _is_loopback(host) or urllib.request.proxy_bypass_environment(  # type: ignore[attr-defined]
            host, {"no": self._no_proxy}
        )
        return self._session(trusted=self._trusted(url)).get(
            url,
            headers=headers,
            auth=auth,
            stream=True,
            allow_redirects=False,
            timeout=self._settings.timeout,
            proxies={} if bypass else self._proxies,
        )

    def _session(self, *, trusted: bool) -> requests.Session:
        """Return this thread's session; the connections behind it are everybody's."""
        sessions: dict[bool, requests.Session] = self._local.__dict__.setdefault("sessions", {})
        if trusted not in sessions:
            session = sessions[trusted] = requests.Session()
            session.trust_env = False  # what is to be taken from the environment was given to us
            session.headers["User-Agent"] = f"envlock/{__version__}"
            session.mount("https://", self._adapters[trusted])
            session.mount("http://", self._adapters[trusted])
        return sessions[trusted]

    def _trusted(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.hostname in self._settings.trusted_hosts or parts.netloc in self._settings.trusted_hosts

    def _refuse_plain(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or "") and not self._trusted(url):
            raise IndexFailed(
                f"{self.clean(url)} is not encrypted: anybody on the way could change what is locked",
                hint="use https, or name the host in trusted-host of pip's configuration",
            )

    def _wait_or_fail(self, url: str, attempt: int, error: Exception) -> None:
        if attempt < TRIES - 1 and not isinstance(error, requests.exceptions.SSLError):
            self._wait(attempt, "")
            return
        host = urlsplit(url).hostname
        if isinstance(error, requests.exceptions.SSLError):
            hint = "behind a proxy with a certificate of its own, name its bundle: PIP_CERT, or cert in pip's settings"
            raise IndexFailed(f"{self.clean(url)}: {host} has no certificate that is known here", hint=hint) from None
        reason = "did not answer in time" if isinstance(error, requests.Timeout) else "cannot be reached"
        raise IndexFailed(
            f"{self.clean(url)}: {host} {reason} (tried {TRIES} times)",
            hint="check the network and the proxy settings of pip",
            details=(self.clean(str(error))[:300],),
        ) from None

    def _wait(self, attempt: int, retry_after: str) -> None:
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0
        backoff = self._pause * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - spreads tries, guards nothing
        time.sleep(min(_LONGEST_WAIT, max(seconds, backoff)))


def _proxies(settings: PipSettings, environ: Mapping[str, str]) -> dict[str, str]:
    if settings.proxy:
        return {"http": settings.proxy, "https": settings.proxy}
    everything = environ.get("all_proxy") or environ.get("ALL_PROXY")
    # not HTTP_PROXY: in a CGI program a client could set it (httpoxy)
    http = environ.get("http_proxy") or everything
    https = environ.get("https_proxy") or environ.get("HTTPS_PROXY") or everything
    return {scheme: proxy for scheme, proxy in (("http", http), ("https", https)) if proxy}


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
