"""Where the .debs of a lock are fetched from: the spec's own repositories, the base's, or a snapshot of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from http import HTTPStatus
from threading import Lock as Mutex
from urllib.parse import quote

from envlock.errors import AptError
from envlock.formats.apt_sources import (
    SourceEntry,
    read_sources,
    snapshot_template,
    snapshot_timestamp,
    snapshot_uri,
)
from envlock.formats.debian import DebianFormatError, architecture, signed_text
from envlock.formats.urls import without_credentials
from envlock.model.lock import Deb, Lock
from envlock.ports import AptArchive, GatewayResponse, Wanted

_LARGEST_RELEASE = 8 * 1024 * 1024  # bytes
_PATH_CHARACTERS = "/~+=@,;!$&'()*:"  # what may stand in a path as it is (RFC 3986)


class DebSource:
    """Opens the .debs of a lock, which names repositories but, except for the spec's own, no hosts.

    ``base_files`` gives the files below /etc/apt of the base (relative path → bytes); it is asked once, and only where
    something has to be fetched from a repository of the base's.
    """

    def __init__(self, lock: Lock, *, archive: AptArchive, base_files: Callable[[], Mapping[str, bytes]]) -> None:
        self._lock = lock
        self._archive = archive
        self._base_files = base_files
        self._mutex = Mutex()
        self._snapshots: dict[str, str | None] = {}  # URI → URI of its snapshot

    def wanted(self, debs: Sequence[Deb] | None = None) -> list[Wanted]:
        """Return what ``Artifacts.fetch`` is to have here, for all .debs of the lock or some.

        Opening one raises ``AptError``: nobody answers, the file is not there any more, or the base of the lock does
        not have the repository.
        """
        return [
            Wanted(title=deb.filename, sha256=deb.sha256, size=deb.size, open=self._opener(deb))
            for deb in (self._lock.debs if debs is None else debs)
        ]

    def _opener(self, deb: Deb) -> Callable[[], AbstractContextManager[Iterable[bytes]]]:
        @contextmanager
        def opened() -> Iterator[Iterable[bytes]]:
            answer = self._find(deb)
            try:
                yield answer.body
            finally:
                _close(answer)

        return opened

    def _find(self, deb: Deb) -> GatewayResponse:
        tried = []
        for uri in self._uris(deb):
            url = f"{uri}/{quote(deb.path, safe=_PATH_CHARACTERS)}"
            answer = self._archive.open(url, {})
            if answer.status == HTTPStatus.OK:
                return answer
            _close(answer)
            tried.append(f"{without_credentials(url)}: HTTP {answer.status}")
        raise AptError(
            f"{deb.name} {deb.version} is no longer in the apt repository {deb.source}",
            hint=f"take the version that is there now with 'envlock lock --upgrade-package {deb.name}',"
            " or name a mirror that still has it in ENVLOCK_APT_MIRROR",
            details=tried,
        )

    def _uris(self, deb: Deb) -> Iterator[str]:
        uri = self._uri(deb)
        yield uri
        if self._lock.inputs.as_of is not None:
            dated = self._snapshot(deb.source, uri)
            if dated is not None and dated != uri:
                yield dated

    def _uri(self, deb: Deb) -> str:
        declared = {source.name: source.uri for source in self._lock.apt_sources}
        if deb.source not in declared:
            raise AptError(f"the lock has {deb.name} from the apt repository {deb.source}, which it does not name")
        if declared[deb.source] is not None:
            return str(declared[deb.source]).rstrip("/")
        entry = self._base_entries.get(deb.source)
        if entry is None or not entry.reachable:
            raise AptError(
                f"the base {self._lock.base.reference} has no apt repository {deb.source}, which {deb.name} came from",
                hint="lock again, for the base as it is now",
            )
        return entry.uri

    @property
    def _base_entries(self) -> Mapping[str, SourceEntry]:
        with self._mutex:  # many threads ask at once, and reading may start a container
            return self._read_entries

    @cached_property
    def _read_entries(self) -> Mapping[str, SourceEntry]:
        reserved = {source.name for source in self._lock.apt_sources if source.uri is not None}
        try:
            entries = read_sources(
                self._base_files(), architecture=architecture(self._lock.platform), reserved=reserved
            )
        except DebianFormatError as error:
            raise AptError(f"the base's list of apt repositories cannot be read: {error}") from error
        return {entry.name: entry for entry in reversed(entries)}

    def _snapshot(self, source: str, uri: str) -> str | None:
        with self._mutex:
            known = uri in self._snapshots
        if not known:
            template = self._lock.inputs.apt_snapshot or self._named_template(source)
            timestamp = snapshot_timestamp(str(self._lock.inputs.as_of))
            found = snapshot_uri(template, timestamp=timestamp, uri=uri) if template else None
            with self._mutex:
                self._snapshots[uri] = found
        return self._snapshots[uri]

    def _named_template(self, source: str) -> str | None:
        entry = self._base_entries.get(source)
        for url in entry.release_urls if entry else ():
            answer = self._archive.open(url, {})
            if answer.status == HTTPStatus.OK:
                return snapshot_template(
                    signed_text(_read_bounded(answer, _LARGEST_RELEASE).decode("utf-8", "replace"))
                )
            _close(answer)
        return None


def _read_bounded(answer: GatewayResponse, limit: int) -> bytes:
    """Return an answer's whole body; raises ``AptError`` where it is over ``limit`` bytes."""
    content = bytearray()
    try:
        for chunk in answer.body:
            content += chunk
            if len(content) > limit:
                raise AptError(f"an apt repository's Release file has more than {limit:,} bytes")
    finally:
        _close(answer)
    return bytes(content)


def _close(answer: GatewayResponse) -> None:
    close = getattr(answer.body, "close", None)
    if close is not None:
        close()
