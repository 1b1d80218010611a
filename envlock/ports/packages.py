"""Files by hash, package indexes, resolvers and apt archives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from envlock.model.lock import BasePython
from envlock.ports.engine import Container
from envlock.ports.gateway import GatewayResponse, Handler
from envlock.ports.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file to have on disk, named by its hash; ``open`` is asked only where the store lacks it."""

    title: str  # for people: "numpy-2.1.0-….whl"
    sha256: str
    size: int | None
    open: Callable[[], AbstractContextManager[Iterable[bytes]]]


class Artifacts(Protocol):
    """This machine's store of fetched files, by content. Nothing is trusted: the hash is checked before each use."""

    def fetch(self, wanted: Sequence[Wanted], *, progress: Progress) -> dict[str, Path]:
        """Have all files here, in parallel; return sha256 → path.

        Raises ``HashMismatch`` (file, expected, found), ``StorageError`` (disk full) or what ``open`` raised; the
        store never holds a partial or wrong file.
        """

    def add(self, content: Iterable[bytes]) -> tuple[str, int, Path]:
        """Keep a file made here; return its sha256, size and path."""

    def has(self, sha256: str) -> Path | None:
        """Return the path of a stored file after checking its hash, or None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexFile:
    """One file that an index or a find-links folder offers (PEP 691 file)."""

    source: str  # PythonSource.name
    filename: str
    url: str  # absolute; may carry no credentials
    sha256: str | None
    size: int | None
    requires_python: str | None
    yanked: bool
    uploaded: str | None  # ISO 8601
    metadata_sha256: str | None  # where the index serves PEP 658 metadata; "" for "yes, without a hash"


class PackageIndex(Protocol):
    """All indexes and find-links folders of a spec or lock, by name."""

    def files(self, name: str) -> Sequence[IndexFile]:
        """Return every file offered for a normalized name by the sources that may supply it; raises ``IndexFailed``."""

    def open(self, file: IndexFile) -> AbstractContextManager[Iterable[bytes]]:
        """Stream a file's bytes, unchecked."""

    def metadata(self, file: IndexFile) -> bytes:
        """Return a wheel's METADATA (core metadata), from PEP 658 or from inside the wheel; raises ``IndexFailed``."""

    def size(self, file: IndexFile) -> int | None:
        """Return a file's size in bytes where it can be had without fetching the file; raises ``IndexFailed``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What a resolver chose: normalized name → version."""

    pins: Mapping[str, str]


class Resolver(Protocol):
    """pip-tools or uv."""

    def resolve(
        self,
        *,
        requirements: Sequence[str],
        constraints: Sequence[str],
        preferred: Mapping[str, str],
        handler: Handler,
        container: Container,
        target: BasePython,
        on_line: Callable[[str], None],
    ) -> Resolution:
        """Resolve for ``target`` against the index that ``handler`` serves at ``/simple/``, open in ``container`` too.

        ``preferred`` pins stay where nothing else forces them. Raises ``Unresolvable`` with the resolver's own
        explanation, shortened.
        """


class AptArchive(Protocol):
    """The apt repositories of a base's own configuration and of the spec, reached from this machine."""

    def open(self, url: str, headers: Mapping[str, str]) -> GatewayResponse:
        """Pass a request for one file of a repository on, with this machine's proxy and certificates."""
