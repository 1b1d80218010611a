"""The package index that a resolver sees: the real ones, cut down to what may be chosen for the target.

``/simple/NAME/`` has one file for each version (PEP 691 JSON, or PEP 503 HTML for whoever does not know that);
``/files/NAME/FILE.metadata`` its metadata (PEP 658), so that resolving fetches no wheels. While a resolver thinks about
one package, the pages and metadata of those that it will ask for next are fetched in the background.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from envlock.errors import EnvlockError, Unresolvable
from envlock.formats.urls import without_credentials
from envlock.lock.candidates import Candidate, Chooser, Offer, Policy
from envlock.lock.core_metadata import CoreMetadata, read_core_metadata
from envlock.ports import GatewayRequest, GatewayResponse, PackageIndex

JSON = "application/vnd.pypi.simple.v1+json"
_AT_ONCE = 16  # requests to the real indexes
T = TypeVar("T")


class SimpleIndex:
    """A ``ports.Handler``; also what the lock asks afterwards, so that it sees what the resolver saw.

    ``sdist_metadata`` gives the metadata of what has to be built, which may mean to build it.
    """

    def __init__(
        self, index: PackageIndex, policy: Policy, *, sdist_metadata: Callable[[Candidate], bytes] | None = None
    ) -> None:
        self._index = index
        self._policy = policy
        self._chooser = Chooser(policy)
        self._sdist_metadata = sdist_metadata
        self._lock = Lock()
        self._known: dict[tuple[str, ...], Future[Any]] = {}
        self._expected: set[tuple[str, str, frozenset[str]]] = set()
        self._pool: ThreadPoolExecutor | None = None
        self.failure: EnvlockError | None = None  # the first that the resolver met: the cause of what it says
        self.asked: dict[str, None] = {}  # names that the resolver asked for, in order

    @contextmanager
    def prefetching(self) -> Iterator[None]:
        """Fetch ahead as long as the context lasts."""
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prefetch")
        try:
            yield
        finally:
            with self._lock:
                pool, self._pool = self._pool, None
            pool.shutdown(wait=False, cancel_futures=True)  # nobody waits for what turned out not to be needed

    def __call__(self, request: GatewayRequest) -> GatewayResponse:
        """Answer a resolver."""
        path = unquote(request.path.partition("?")[0])
        try:
            match path.strip("/").split("/"):
                case ["simple", name]:
                    return self._page(canonicalize_name(name), request.headers.get("accept", ""))
                case ["files", name, filename]:
                    return self._file(name, filename)
        except EnvlockError as error:
            self.failure = self.failure or error
            raise
        return GatewayResponse(status=HTTPStatus.NOT_FOUND)

    def offer(self, name: str) -> Offer:
        """Return what the target can have of a package; raises ``IndexFailed``."""
        return self._once(("offer", name), lambda: self._chooser.offer(name, self._index.files(name)))

    def metadata(self, candidate: Candidate) -> bytes:
        """Return a candidate's core metadata; raises ``IndexFailed``."""
        key = ("metadata", candidate.name, candidate.file.filename)
        if candidate.is_sdist and self._sdist_metadata is not None:
            build = self._sdist_metadata
            return self._once(key, lambda: build(candidate))
        return self._once(key, lambda: self._index.metadata(candidate.file))

    def core_metadata(self, candidate: Candidate) -> CoreMetadata:
        """Return a candidate's core metadata, read."""
        key = ("core", candidate.name, candidate.file.filename)
        return self._once(key, lambda: read_core_metadata(self.metadata(candidate)))

    def expect(self, requirement: Requirement) -> None:
        """Fetch ahead what a requirement will lead to."""
        name = canonicalize_name(requirement.name)
        key = (name, str(requirement.specifier), frozenset(requirement.extras))
        with self._lock:
            if key in self._expected or self._pool is None:
                return
            self._expected.add(key)
            self._pool.submit(self._ahead, name, requirement.specifier, frozenset(requirement.extras))

    def _ahead(self, name: str, specifier: SpecifierSet, extras: frozenset[str]) -> None:
        try:
            offer = self.offer(name)
            kept = (self._policy.kept or {}).get(name)
            candidate = offer.candidates.get(Version(kept.version)) if kept is not None else None
            if candidate is None or not specifier.contains(candidate.version, prereleases=True):
                candidate = offer.best(specifier)
            if candidate is not None and not candidate.is_sdist:
                for requirement in self.core_metadata(candidate).wanted(self._markers, extras):
                    self.expect(requirement)
        except (EnvlockError, RuntimeError):
            pass  # whoever really asks gets to see it; the pool may be closing, too

    @property
    def _markers(self) -> dict[str, str]:
        return dict(self._policy.interpreter.python.markers)

    def _once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """Do something once, whoever asks first; others wait for it."""
        with self._lock:
            known = self._known.get(key)
            if known is None:
                mine: Future[T] = Future()
                self._known[key] = mine
        if known is not None:
            found: T = known.result()
            return found
        try:
            mine.set_result(make())
        except BaseException as error:
            mine.set_exception(error)
            raise
        return mine.result()

    def _page(self, name: str, accept: str) -> GatewayResponse:
        self.asked.setdefault(name)
        offer = self.offer(name)
        if not offer.total:
            return GatewayResponse(status=HTTPStatus.NOT_FOUND)
        wants_json = JSON in accept or "application/vnd.pypi.simple.latest+json" in accept
        kind = "json" if wants_json else "html"
        body = self._once((kind, name), lambda: _json_page(offer) if wants_json else _html_page(offer))
        return GatewayResponse(
            headers={"Content-Type": JSON if wants_json else "text/html; charset=utf-8", "Cache-Control": "no-store"},
            body=(body,),
        )

    def _file(self, name: str, filename: str) -> GatewayResponse:
        wanted = filename.removesuffix(".metadata")
        offer = self.offer(name)
        candidate = next((one for one in offer.candidates.values() if served_name(one) == wanted), None)
        if candidate is None:
            return GatewayResponse(status=HTTPStatus.NOT_FOUND)
        if wanted != filename:
            content = self.metadata(candidate)
            for requirement in self.core_metadata(candidate).wanted(self._markers):
                if requirement.url is not None:
                    raise _direct(candidate, requirement)
                self.expect(requirement)
            return GatewayResponse(headers={"Content-Type": "application/octet-stream"}, body=(content,))
        return GatewayResponse(headers={"Content-Type": "application/octet-stream"}, body=self._content(candidate))

    def _content(self, candidate: Candidate) -> Iterator[bytes]:
        with self._index.open(candidate.file) as blocks:
            yield from blocks


def _direct(candidate: Candidate, requirement: Requirement) -> Unresolvable:
    return Unresolvable(
        f"{candidate.name} {candidate.version} requires {requirement.name} by a direct URL, which no lock can pin:"
        f" {without_credentials(str(requirement))}",
        hint=f"exclude that version of {candidate.name}, or offer a wheel that asks for {requirement.name} by version",
    )


def served_name(candidate: Candidate) -> str:
    """Return the file name that a resolver sees: an sdist looks like the wheel that it will become."""
    if not candidate.is_sdist:
        return candidate.file.filename
    return f"{candidate.name.replace('-', '_')}-{candidate.version}-py3-none-any.whl"


def _json_page(offer: Offer) -> bytes:
    files = []
    for candidate in offer.candidates.values():
        filename = served_name(candidate)
        file: dict[str, Any] = {
            "filename": filename,
            "url": _url(candidate, filename),
            "hashes": {},
            "core-metadata": True,
            "dist-info-metadata": True,
            "yanked": candidate.file.yanked,
        }
        if candidate.file.requires_python:
            file["requires-python"] = candidate.file.requires_python
        files.append(file)
    versions = sorted({str(version) for version in offer.candidates})
    return json.dumps(
        {"meta": {"api-version": "1.1"}, "name": offer.name, "versions": versions, "files": files}
    ).encode()


def _html_page(offer: Offer) -> bytes:
    lines = ["<!DOCTYPE html>", "<html><body>"]
    for candidate in offer.candidates.values():
        filename = served_name(candidate)
        attributes = ' data-core-metadata="true" data-dist-info-metadata="true"'
        if candidate.file.requires_python:
            attributes += f' data-requires-python="{html.escape(candidate.file.requires_python)}"'
        if candidate.file.yanked:
            attributes += ' data-yanked=""'
        lines.append(f'<a href="{html.escape(_url(candidate, filename))}"{attributes}>{html.escape(filename)}</a>')
    return "\n".join([*lines, "</body></html>", ""]).encode()


def _url(candidate: Candidate, filename: str) -> str:
    return f"/files/{candidate.name}/{quote(filename)}"
