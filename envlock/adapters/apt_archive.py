"""apt repositories over HTTP, through this machine's proxy and certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

import requests
import urllib3
from requests.adapters import HTTPAdapter

from envlock.errors import AptError
from envlock.formats.urls import without_credentials
from envlock.ports import GatewayResponse

_PASSED_ON = frozenset(
    {
        HTTPStatus.OK,
        HTTPStatus.PARTIAL_CONTENT,
        HTTPStatus.NOT_MODIFIED,
        HTTPStatus.NOT_FOUND,  # apt asks for files that need not be there
        HTTPStatus.GONE,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    }
)
_REFUSALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED})
_BLOCK = 256 * 1024  # bytes
_RESUMES = 3


class HttpAptArchive:
    """The ``AptArchive`` port with ``requests``.

    ``mirrors`` maps prefixes of URIs to what is asked in their place (``https://archive.example.org/debian`` →
    ``https://mirror.example.com/debian``); the longest prefix counts. ``timeout`` is in seconds: to connect, and to
    wait for the next bytes.
    """

    def __init__(
        self,
        session: requests.Session | None = None,
        *,
        mirrors: Mapping[str, str] | None = None,
        timeout: tuple[float, float] = (10, 60),
        retries: int = 3,
    ) -> None:
        self._session = session or requests.Session()
        self._mirrors = sorted((mirrors or {}).items(), key=lambda item: len(item[0]), reverse=True)
        self._timeout = timeout
        again = urllib3.Retry(
            total=retries, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=again, pool_maxsize=16))

    def open(self, url: str, headers: Mapping[str, str]) -> GatewayResponse:
        """GET a file; raises ``AptError`` where nobody answers, or with a refusal or a failure of the server's.

        Where the connection breaks half way, the rest is asked for on another one, a few times.
        """
        url = self._mirrored(url)
        answer = self._get(url, headers)
        return GatewayResponse(
            status=answer.status_code,
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=_Body(answer, lambda resumed: self._get(url, resumed), without_credentials(url)),
        )

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        shown = without_credentials(url)
        try:
            # Not unpacked on the way: the hashes are of the files as they are
            answer = self._session.get(
                url, headers={**headers, "Accept-Encoding": "identity"}, stream=True, timeout=self._timeout
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _unreachable(shown, error) from error
        if answer.status_code not in _PASSED_ON:
            answer.close()
            raise _refused(shown, answer.status_code)
        return answer

    def _mirrored(self, url: str) -> str:
        for prefix, mirror in self._mirrors:
            stem = prefix.rstrip("/")
            if url == stem or url.startswith(f"{stem}/"):
                return mirror.rstrip("/") + url[len(stem) :]
        return url


class _Body:
    """The bytes of an answer as they come, over as many connections as it takes (a few)."""

    def __init__(
        self, answer: requests.Response, again: Callable[[Mapping[str, str]], requests.Response], shown: str
    ) -> None:
        self._answer = answer
        self._again = again
        self._shown = shown
        self._whole = answer.status_code == HTTPStatus.OK
        self._received = 0  # bytes

    def __iter__(self) -> Iterator[bytes]:
        for left in range(_RESUMES, -1, -1):
            try:
                for block in self._answer.raw.stream(_BLOCK, decode_content=False):
                    self._received += len(block)
                    yield block
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if not left or not self._resume():
                    raise AptError(
                        f"{self._shown}: the connection broke before the file was complete ({_reason(error)})",
                        hint="run the command again",
                    ) from error
            else:
                return

    def _resume(self) -> bool:
        """Ask for the rest of the very same file; only of a whole one, as a part does not say what it is part of."""
        if not self._whole:
            return False
        validator = self._answer.headers.get("ETag") or self._answer.headers.get("Last-Modified")
        self.close()
        headers = {"Range": f"bytes={self._received}-"} | ({"If-Range": validator} if validator else {})
        self._answer = self._again(headers)
        return self._answer.status_code == HTTPStatus.PARTIAL_CONTENT

    def close(self) -> None:
        self._answer.close()


def _unreachable(shown: str, error: Exception) -> AptError:
    if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.InvalidURL):
        return AptError(f"{shown} is not an address that can be asked for ({_reason(error)})")
    if isinstance(error, requests.exceptions.SSLError):
        return AptError(
            f"{shown}: the server's certificate is not trusted ({_reason(error)})",
            hint="name your company's certificates in REQUESTS_CA_BUNDLE",
        )
    return AptError(
        f"{shown} cannot be reached ({_reason(error)})",
        hint="check the network and the proxy settings, or name a mirror in ENVLOCK_APT_MIRROR",
    )


def _refused(shown: str, status: int) -> AptError:
    if status in _REFUSALS:
        return AptError(
            f"{shown}: the server refuses us (HTTP {status})",
            hint="put the credentials for this host into your netrc file, or check the proxy's",
        )
    return AptError(
        f"{shown}: the server failed (HTTP {status})", hint="try again later, or name a mirror in ENVLOCK_APT_MIRROR"
    )


def _reason(error: BaseException) -> str:
    """Return the innermost reason, which is the one that says something."""
    seen: BaseException = error
    for _ in range(8):
        inner = getattr(seen, "reason", None) or next((a for a in seen.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    text = without_credentials(str(seen).partition(">: ")[2] or str(seen))
    return text[:200] or type(seen).__name__
