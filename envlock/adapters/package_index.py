"""All package indexes and find-links folders of a spec or lock, each asked only for what may come from it.

Which source supplies a package is decided by name alone, before any version is looked at, so that nobody can slip a
package of a company's own name in from elsewhere (dependency confusion):

- a package that is bound to an index comes only from there, and that index supplies nothing else;
- any other comes from the first source that has a project of its name: the default index, then the indexes without
  bound packages as the spec lists them; files of find-links folders are offered beside.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from envlock.adapters.find_links import read_folder
from envlock.adapters.index_http import IndexHttp
from envlock.adapters.simple_pages import ACCEPT, BadPage, read_page
from envlock.adapters.wheel_metadata import BadWheel, RangeFile, read_metadata
from envlock.errors import IndexFailed, InputError
from envlock.model.lock import PythonSource
from envlock.ports import IndexFile

DEFAULT = "default"
_BLOCK = 1024 * 1024  # bytes


class PackageIndexes:
    """Implements ``ports.PackageIndex``.

    ``default_url`` may hold credentials, as pip's index-url may. ``root`` is the folder that find-links paths are
    relative to; ``cache`` a folder for METADATA by wheel hash, or None.
    """

    def __init__(
        self,
        sources: Sequence[PythonSource],
        *,
        http: IndexHttp,
        default_url: str,
        root: Path,
        cache: Path | None = None,
    ) -> None:
        self._http = http
        self._root = root
        self._cache = cache
        self._urls = {
            source.name: self._base_url(source.location or default_url) for source in sources if source.kind == "index"
        }
        self._urls.setdefault(DEFAULT, self._base_url(default_url))
        self._folders = {source.name: self._folder(source) for source in sources if source.kind == "find-links"}
        self._bound = {package: source.name for source in sources for package in source.packages}
        closed = {source.name for source in sources if source.packages}
        self._open = [DEFAULT, *(name for name in self._urls if name != DEFAULT and name not in closed)]
        self._lock = threading.Lock()
        self._listed: dict[str, dict[str, list[IndexFile]]] = {}
        self._pages: dict[tuple[str, str], list[IndexFile]] = {}

    def files(self, name: str) -> Sequence[IndexFile]:
        """Return every file offered for a normalized name; see the module for who may supply it."""
        if name in self._bound:
            return self.files_of(self._bound[name], name)
        local = [file for folder in self._folders for file in self.files_of(folder, name)]
        for source in self._open:
            if found := self.files_of(source, name):
                here = {file.filename for file in local}
                return [*local, *(file for file in found if file.filename not in here)]
        return local

    def files_of(self, source: str, name: str) -> Sequence[IndexFile]:
        """Return what one source offers for a name; raises ``IndexFailed``, ``InputError`` for an unknown source."""
        if source in self._folders:
            return self._listing(source).get(name, [])
        if source not in self._urls:
            raise InputError(f"the lock has {name} from {source}, which is no source that it names")
        if (source, name) not in self._pages:
            self._pages[source, name] = self._page(source, name)
        return self._pages[source, name]

    @contextmanager
    def open(self, file: IndexFile) -> Iterator[Iterable[bytes]]:
        """Stream a file's bytes, unchecked."""
        if file.url.startswith("file:"):
            with _opened(file) as stream:
                yield iter(lambda: stream.read(_BLOCK), b"")
        else:
            with self._http.stream(file.url) as blocks:
                yield blocks

    def metadata(self, file: IndexFile) -> bytes:
        """Return a wheel's METADATA; raises ``IndexFailed``."""
        cached = self._cache / "metadata" / file.sha256 if self._cache and file.sha256 else None
        if cached is not None:
            with suppress(OSError):
                return cached.read_bytes()
        content = self._metadata(file)
        if cached is not None:
            _keep(cached, content)
        return content

    def size(self, file: IndexFile) -> int | None:
        """Return a file's size in bytes, from its page or from what the server says before it sends the file."""
        if file.size is not None or file.url.startswith("file:"):
            return file.size
        with self._http.get(file.url, headers={"Accept-Encoding": "identity"}) as response:
            self._http.check(response, file.url)
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isascii() and length.isdecimal() else None

    def _metadata(self, file: IndexFile) -> bytes:
        try:
            if file.url.startswith("file:"):
                with _opened(file) as stream:
                    return read_metadata(stream, filename=file.filename)
            if file.metadata_sha256 is not None and (content := self._served_metadata(file)) is not None:
                return content
            return self._metadata_inside(file)
        except BadWheel as error:
            raise IndexFailed(f"{self._named(file.source)} offers a broken file: {error}") from error

    def _served_metadata(self, file: IndexFile) -> bytes | None:
        url = file.url + ".metadata"
        with self._http.read(url) as (response, content):
            if response.status_code == HTTPStatus.NOT_FOUND:
                return None  # promised but not kept: mirrors do that
            self._http.check(response, url)
        if file.metadata_sha256 and hashlib.sha256(content).hexdigest() != file.metadata_sha256:
            raise IndexFailed(
                f"{self._named(file.source)}: the metadata of {file.filename} has not the sha256 that its page says"
            )
        return content

    def _metadata_inside(self, file: IndexFile) -> bytes:
        tail = {"Range": f"bytes=-{RangeFile.tail_size()}", "Accept-Encoding": "identity"}
        # the body of an answer that ignores the range is left unread: it may be the whole of torch
        with self._http.read(file.url, headers=tail, only=HTTPStatus.PARTIAL_CONTENT) as (response, content):
            size = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._http.check(response, file.url)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and size is not None:
            ranges = RangeFile(size=int(size[1]), tail=content, fetch=lambda start, end: self._part(file, start, end))
            return read_metadata(cast("IO[bytes]", ranges), filename=file.filename)
        with tempfile.TemporaryFile() as whole, self.open(file) as blocks:
            for block in blocks:
                whole.write(block)
            return read_metadata(cast("IO[bytes]", whole), filename=file.filename)

    def _part(self, file: IndexFile, start: int, end: int) -> bytes:
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with self._http.read(file.url, headers=headers) as (response, content):
            self._http.check(response, file.url)
            return content if response.status_code == HTTPStatus.PARTIAL_CONTENT else content[start:end]

    def _page(self, source: str, name: str) -> list[IndexFile]:
        url = f"{self._urls[source]}{name}/"
        if url.startswith("file:"):
            return self._local_page(source, name, url)
        with self._http.read(url, headers={"Accept": ACCEPT}) as (response, content):
            if response.status_code == HTTPStatus.NOT_FOUND:
                return []
            self._http.check(response, url)
            return self._parsed(
                content,
                content_type=response.headers.get("Content-Type", ""),
                url=response.url,
                source=source,
                name=name,
            )

    def _parsed(self, content: bytes, *, content_type: str, url: str, source: str, name: str) -> list[IndexFile]:
        try:
            files = read_page(content, content_type=content_type, url=url, source=source, name=name)
        except BadPage as error:
            raise IndexFailed(f"{self._named(source)}: {self._http.clean(url)} {error}") from error
        if not url.startswith("file:"):  # a page from elsewhere must not make us read this machine's files
            files = [file for file in files if file.url.startswith(("https://", "http://"))]
        # a link with credentials in it is used with them, and passed on without
        return [replace(file, url=self._http.credentials.take(file.url)) if "@" in file.url else file for file in files]

    def _local_page(self, source: str, name: str, url: str) -> list[IndexFile]:
        folder = Path(url2pathname(urlsplit(url).path))
        for page, content_type in (("index.json", "application/json"), ("index.html", "text/html")):
            try:
                content = (folder / page).read_bytes()
            except OSError:
                continue
            return self._parsed(content, content_type=content_type, url=f"{url}{page}", source=source, name=name)
        return []

    def _listing(self, source: str) -> dict[str, list[IndexFile]]:
        with self._lock:
            if source not in self._listed:
                self._listed[source] = read_folder(self._folders[source], source=source)
            return self._listed[source]

    def _base_url(self, url: str) -> str:
        return self._http.credentials.take(url.strip()).rstrip("/") + "/"

    def _folder(self, source: PythonSource) -> Path:
        return self._root / (source.location or "")

    def _named(self, source: str) -> str:
        return f"the index {source} ({self._http.clean(self._urls[source])})" if source in self._urls else source


def _keep(path: Path, content: bytes) -> None:
    """Write a cache file, complete or not at all; a cache that cannot be written is no fault."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".partial-", delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)


def _opened(file: IndexFile) -> IO[bytes]:
    path = url2pathname(urlsplit(file.url).path)
    try:
        return Path(path).open("rb")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise IndexFailed(f"{file.filename} of {file.source} cannot be read: {reason}") from error
