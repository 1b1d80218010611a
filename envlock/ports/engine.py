"""Container engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from envlock.errors import EnvlockError
from envlock.formats.oci_archive import Loadable, OpenBlob, OpenLayer
from envlock.model.layers import StoredLayer
from envlock.model.lock import Descriptor
from envlock.ports.gateway import Handler
from envlock.ports.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What an engine says of itself."""

    version: str
    platform: str  # "linux/amd64"
    storage: str  # "overlay2", "io.containerd.snapshotter.v1 / overlayfs"
    mirrors: tuple[str, ...]  # Docker Hub mirrors that it is configured with, as URLs

    @property
    def per_blob(self) -> bool:
        """Say whether it keeps layers as blobs (containerd image store), and not stacked by chain."""
        return "containerd.snapshotter" in self.storage


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
    author: str = ""  # OCI image spec, config
    config: Mapping[str, Any] = field(default_factory=dict)  # how containers start, in the engine's own names


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


class Pipe(Protocol):
    """A program's stdin and stdout. One thread may send while another one receives."""

    def send(self, data: bytes) -> None:
        """Write all of it; raises ``OSError`` or ``ValueError`` where nobody reads any more."""

    def receive(self, size: int) -> bytes:
        """Return exactly as many bytes, or fewer at the end."""

    def complaints(self) -> Sequence[str]:
        """Return the lines that came on stderr so far."""

    def close(self) -> None:
        """Give it up: whoever receives finds the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Supplies:
    """Where the layers of a composed image come from.

    ``pull_base`` makes the engine fetch the base itself; ``open_blob`` gives the base's layers from elsewhere, for an
    engine that cannot.
    """

    open_layer: OpenLayer
    pull_base: Callable[[], object] | None = None
    open_blob: OpenBlob | None = None
    near: tuple[str, ...] = ()  # images, by ID, that are known to share layers with it


@dataclass(frozen=True, kw_only=True, slots=True)
class Coming:
    """An image of which some layers are still being made."""

    below: Loadable  # as much of it as there is, up to the first that is missing
    above: Sequence[StoredLayer]  # those that are there, and lie above that one
    image: Callable[[], Loadable]  # waits for the whole of it


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

    def piped(self, image: str, argv: Sequence[str], *, env: Mapping[str, str]) -> AbstractContextManager[Pipe]:
        """Run a program as the first process of a container that lives as long as the context.

        The program has to end when its stdin does: that is how the container ends with this process, however hard it
        is ended. It runs as root with no right but to open every file, with no network, on a file system that is only
        read (but for volumes of the image's own).
        Raises ``InputError`` for an image that is not there, ``EngineError`` where the program cannot be started.
        """

    def build(self, context: IO[bytes], *, platform: str, on_line: Callable[[str], None]) -> str:
        """Build a Dockerfile from a tar context with the network off; return the image's ID, untagged.

        Raises ``BuildFailed`` with the failing step and its own output. After a failure or an interruption nothing
        is left behind: no container, no dangling image made by this build.
        """

    def lacks(self, image: Loadable) -> int:
        """Return how many bytes of layers loading this image would send."""

    def labelled(self, label: str) -> Sequence[EngineImage]:
        """Return all images that have a label of this name."""

    def load(self, image: Loadable, supplies: Supplies, *, progress: Progress) -> Loaded:
        """Have a composed image, without a name; the engine is sent only the layers that it lacks.

        Raises ``EngineError``, ``DamagedLayer`` where a stored layer is not what it was, and what the supplies raise.
        """

    def load_early(self, coming: Coming, supplies: Supplies, *, progress: Progress) -> Loaded:
        """Have a composed image; what lies above its missing layers is sent while those are made.

        Only an engine that would have to be sent it anyway is. Raises as ``load`` does, and what ``coming`` raises.
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
