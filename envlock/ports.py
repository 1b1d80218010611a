"""The questions that envlock asks of the world, as typed protocols. Adapters answer them; verbs only know these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from envlock.errors import EnvlockError
from envlock.formats.oci_archive import Loadable, OpenBlob, OpenLayer
from envlock.model.environment import Environment
from envlock.model.lock import BasePython, Descriptor
from envlock.model.record import Destination, Record

# --- progress ---------------------------------------------------------------------------------------------------------


class Task(Protocol):
    """One running piece of long work."""

    def advance(self, amount: int = 1) -> None:
        """Say that ``amount`` more units (bytes, packages, steps) are done. Safe to call from any thread."""

    def note(self, text: str) -> None:
        """Show what is being worked on right now (a package, a file); replaces the previous note."""


class Progress(Protocol):
    """Tells the user about long work, on stderr; quiet when that is not a terminal."""

    def task(self, title: str, *, total: int | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """Start a piece of work of ``total`` units; ``unit`` is "B" for bytes, else a plural noun."""

    def message(self, text: str) -> None:
        """Tell the user something that stays on the screen, terminal or not."""


# --- the gateway ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayRequest:
    """A GET or HEAD that a program in a container (or a resolver on this machine) makes through the gateway."""

    method: str
    path: str  # with the query, percent-encoded, starting with "/"
    headers: Mapping[str, str]  # names in lower case


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayResponse:
    """Its answer. ``body`` is iterated once, and closed (``close()``) if it has that method."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()


Handler = Callable[[GatewayRequest], GatewayResponse]

GATEWAY_URL = "http://127.0.0.1:8629"  # where a container's programs find the handler


# --- the engine -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What an engine says of itself."""

    version: str
    platform: str  # "linux/amd64"
    storage: str  # "overlay2", "io.containerd.snapshotter.v1 / overlayfs"
    mirrors: tuple[str, ...]  # Docker Hub mirrors that it is configured with, as URLs


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineImage:
    """An image that an engine has."""

    id: str  # what the engine calls it ("sha256:…"): the config digest, or the manifest digest on containerd stores
    tags: tuple[str, ...]
    digests: tuple[str, ...]  # "repository@sha256:…"
    diff_ids: tuple[str, ...]
    platform: str
    env: Mapping[str, str]
    labels: Mapping[str, str]
    user: str
    workdir: str
    entrypoint: tuple[str, ...]
    size: int  # bytes, as the engine counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """A program that ran in a container."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Container(Protocol):
    """A short-lived container. It has no network; what its programs may fetch comes through the gateway's handler."""

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a program to its end; ``on_line`` gets each line of stdout and stderr as it comes.

        Raises ``EngineError`` where the engine fails; a program's own failure is its exit code (126 and 127 where
        it cannot be started).
        """

    def put(self, files: Mapping[str, bytes | Path], *, executable: Iterable[str] = ()) -> None:
        """Write files (absolute path in the container → bytes, or a file of this machine that is streamed)."""

    def read(self, path: str) -> bytes | None:
        """Return a regular file's bytes (symbolic links are followed inside the container), or None."""

    def files(self, path: str) -> Iterator[tuple[str, bytes]]:
        """Yield (path relative to ``path``, bytes) of every regular file below a folder; nothing if it is not there."""

    def handler_error(self) -> EnvlockError | None:
        """Return the handler's last error since the last ``run`` began: the real cause of what its program reports.

        A failing handler is a 502 to the program inside. An exception that is no ``EnvlockError`` is raised: a bug.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Supplies:
    """Where the layers of a composed image come from.

    ``pull_base`` makes the engine fetch the base itself; ``open_blob`` gives the base's layers from elsewhere, for an
    engine that cannot.
    """

    open_layer: OpenLayer
    pull_base: Callable[[], object] | None = None
    open_blob: OpenBlob | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What loading came to."""

    id: str  # what the engine calls the image: as ``EngineImage.id``
    sent: int  # bytes; 0 where it had the image
    layers: int  # how many were sent


class Engine(Protocol):
    """A container engine, here or far away: nothing assumes that it shares this machine's files."""

    def info(self) -> EngineInfo:
        """Say what engine this is; raises ``EngineError`` where none answers or it refuses us."""

    def find(self, reference: str) -> EngineImage | None:
        """Return the image that the engine has by this tag, digest or ID."""

    def pull(self, reference: str, *, platform: str, progress: Progress) -> EngineImage:
        """Pull by tag or ``repository@digest``.

        Raises ``UnknownImage`` for an unknown tag, ``RegistryError`` (access, network) or ``EngineError``.
        """

    def distribution(self, reference: str) -> Descriptor:
        """Ask the registry, through the engine and with its credentials, what a reference points to."""

    def container(
        self,
        image: str,
        *,
        handler: Handler | None = None,
        python: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Container]:
        """Start a container of the image that lives as long as the context (and no longer than this process).

        Without ``handler`` nothing can be fetched from inside. Runs as root, with no network, no mounts, no
        credentials, no new privileges. Needs a Python 3 (``python``: its path; default: looked for); raises
        ``InputError`` with a hint where the image has none.
        """

    def build(self, context: IO[bytes], *, platform: str, on_line: Callable[[str], None]) -> str:
        """Build a Dockerfile from a tar context with the network off; return the image's ID, untagged.

        Raises ``BuildFailed`` with the failing step and its own output. After a failure or an interruption nothing
        is left behind: no container, no dangling image made by this build.
        """

    def load(self, image: Loadable, supplies: Supplies, *, progress: Progress) -> Loaded:
        """Have a composed image, without a name; the engine is sent only the layers that it lacks.

        Raises ``EngineError``, ``DamagedLayer`` where a stored layer is not what it was, and what the supplies raise.
        """

    def tag(self, image_id: str, reference: str) -> None:
        """Give an image a further name."""

    def remove(self, reference: str) -> None:
        """Remove an image (or just a name of it); no error where it is gone."""

    def push(self, reference: str, *, progress: Progress) -> str:
        """Push, and return the manifest digest that the registry acknowledged; raises ``RegistryError``."""

    def run(
        self,
        image: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        volumes: Mapping[str, str],
        network: str | None,
        gpus: bool,
        on_output: Callable[[bytes, bool], None],
    ) -> int:
        """Run a command in a new container of the image as its own user, and return its exit code.

        ``volumes`` maps a folder of the engine's machine to a path inside; ``on_output`` gets (bytes, is_stderr).
        The container is stopped and removed at the end and on interruption.
        """


# --- registries -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A platform's image in a registry."""

    repository: str
    index_digest: str | None  # where the reference was a multi-platform index
    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    env: Mapping[str, str]


class Registry(Protocol):
    """The registry that an image reference names (OCI distribution spec)."""

    def manifest(self, reference: str, *, platform: str) -> Manifest:
        """Resolve a tag or digest for a platform; raises ``RegistryError``, ``UnknownImage``."""


# --- files by hash ----------------------------------------------------------------------------------------------------


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


# --- Python packages --------------------------------------------------------------------------------------------------


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


# --- apt --------------------------------------------------------------------------------------------------------------


class AptArchive(Protocol):
    """The apt repositories of a base's own configuration and of the spec, reached from this machine."""

    def open(self, url: str, headers: Mapping[str, str]) -> GatewayResponse:
        """Pass a request for one file of a repository on, with this machine's proxy and certificates."""


# --- runs -------------------------------------------------------------------------------------------------------------


class RunStore(Protocol):
    """MLflow."""

    def deliver(self, record: Record, destination: Destination, *, key: str) -> str:
        """Put a record into a run and return the run's ID; with no run ID, create one, once per ``key``.

        Doing it again changes nothing. A param that the run already has with another value stays as it is, and the
        record's value becomes the tag ``envlock.<param>``. Raises ``TrackingError`` where the store cannot be reached
        or refuses, ``InputError`` for an unknown or deleted run or experiment.
        """

    def environment(self, run_id: str, *, title: str) -> Environment:
        """Read back the environment of a run, from its artifacts or, where there are none, from its params.

        Raises as ``deliver`` does.
        """

    def artifact(self, run_id: str, path: str) -> bytes | None:
        """Return one artifact of a run, or None where it has no such file. Raises as ``deliver`` does."""


class Outbox(Protocol):
    """Records that wait for MLflow to come back."""

    def put(self, record: Record, destination: Destination) -> str:
        """Keep a record safely on disk and return its key, which no other record ever had; raises ``StorageError``."""

    def pending(self) -> Sequence[tuple[str, Record, Destination]]:
        """Return what waits, oldest first."""

    def claim(self, key: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold a record while it is delivered, against other processes (until this one ends, whatever way).

        Gives False where the record is gone or, without ``wait``, where another process holds it.
        """

    def done(self, key: str) -> None:
        """Forget a delivered record; no error where it is gone."""

    def place(self, key: str) -> str:
        """Say where a record waits, for people."""
