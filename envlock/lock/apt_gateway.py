"""The apt side of a container's gateway: repositories by number in the container, by their real URIs out here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from envlock.errors import AptError, EnvlockError
from envlock.formats.urls import without_credentials
from envlock.ports import GATEWAY_URL, AptArchive, GatewayRequest, GatewayResponse

PREFIX = "/apt/"

_PATH = re.compile(r"/apt/(\d{1,4})/([!-~]*)")
_FORWARDED = frozenset({"if-modified-since", "if-none-match", "if-range", "range"})
_RETURNED = frozenset(
    {"accept-ranges", "content-length", "content-range", "content-type", "date", "etag", "last-modified"}
)


class AptGateway:
    """A ``Handler`` for ``/apt/<number>/<path>``, which passes requests on to the repository of that number.

    apt's own messages name the gateway's address and lose the reason of a failure, so both are kept here.
    """

    def __init__(self, archive: AptArchive) -> None:
        self.archive = archive
        self.failures: list[EnvlockError] = []
        self._uris: list[str] = []

    def route(self, uri: str) -> str:
        """Return the address, for a program in the container, of a repository's URI."""
        self._uris.append(uri.rstrip("/"))
        return f"{GATEWAY_URL}{PREFIX}{len(self._uris) - 1}"

    def readable(self, text: str) -> str:
        """Return a message of apt's with the repositories' real URIs, without credentials."""
        found = re.sub(rf"{re.escape(GATEWAY_URL + PREFIX)}(\d+)", self._uri_of, text)
        return without_credentials(found)

    def _uri_of(self, match: re.Match[str]) -> str:
        number = int(match.group(1))
        return self._uris[number] if number < len(self._uris) else match.group()

    def __call__(self, request: GatewayRequest) -> GatewayResponse:
        """Answer one request; what fails is remembered and answered with 502."""
        match = _PATH.fullmatch(request.path)
        if match is None or int(match.group(1)) >= len(self._uris) or _climbs(match.group(2)):
            return GatewayResponse(status=404)
        if request.method not in {"GET", "HEAD"}:
            return GatewayResponse(status=405)
        headers = {name: value for name, value in request.headers.items() if name in _FORWARDED}
        try:
            answer = self.archive.open(f"{self._uris[int(match.group(1))]}/{match.group(2)}", headers)
        except EnvlockError as error:
            self.failures.append(error)
            return GatewayResponse(status=502, body=(str(error).encode(),))
        returned = {name: value for name, value in answer.headers.items() if name.lower() in _RETURNED}
        return GatewayResponse(status=answer.status, headers=returned, body=_Watched(answer.body, self.failures))


def _climbs(path: str) -> bool:
    """Return whether a path leaves the repository."""
    return ".." in re.split(r"/|%2[fF]", path.replace("%2e", ".").replace("%2E", "."))


class _Watched:
    """A body whose failure half way is remembered."""

    def __init__(self, body: Iterable[bytes], failures: list[EnvlockError]) -> None:
        self._body = body
        self._failures = failures

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except AptError as error:
            self._failures.append(error)
            raise

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
