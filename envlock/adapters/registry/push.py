"""Images and registries without an engine: pushing what is composed, and reading a base's layers."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import IO, cast
from urllib.parse import urlsplit

from envlock.adapters.docker_login import Credentials
from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry.download import blob_blocks
from envlock.adapters.registry.exchange import Exchange, Exchanges
from envlock.adapters.registry.upload import has_blob, mount_blob, put_manifest, send_blob
from envlock.errors import RegistryError, StorageError
from envlock.formats import oci
from envlock.formats.hosts import is_loopback
from envlock.formats.oci_archive import OpenBlob, OpenLayer
from envlock.formats.reference import DEFAULT_REGISTRY, Reference, parse_reference
from envlock.formats.streams import IteratorStream
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.lock import Descriptor
from envlock.ports import Progress, Task

_AT_A_TIME = 8  # layers that are asked for: a registry may be far away
_UPLOADS = 3  # of them are sent: one is compressed while another is on the line
_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """What a push came to."""

    digest: str  # of the manifest, the same from every machine
    sent: int  # bytes of layers and configuration that went over the line
    blobs: int  # how many of them were sent; the rest was there or was mounted


class Blobs:
    """Registries as stores of blobs. ``environment``, ``mirrors`` and ``pause`` as for ``HttpRegistry``."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        packed: PackedLayers,
        mirrors: Callable[[], Sequence[str]] = tuple,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._credentials = Credentials(environment)
        self._packed = packed
        self._mirrors = mirrors
        self._pause = pause

    def config(self, repository: str, blob: Descriptor) -> bytes:
        """Return an image's configuration; raises ``UnknownImage``, ``HashMismatch``, ``RegistryError``."""
        with self.opened(repository, blob) as stream:
            return stream.read()

    @contextmanager
    def opened(self, repository: str, blob: Descriptor) -> Iterator[IO[bytes]]:
        """Give a blob as a stream, mirrors first; raises as ``config``, at the latest where its last block is read."""
        stream = self.open(repository, blob)
        with closing(stream):
            yield stream

    def open(self, repository: str, blob: Descriptor) -> IO[bytes]:
        """Return a blob as a stream that whoever asks closes; what a mirror does not give comes from the registry."""
        return cast("IO[bytes]", IteratorStream(self._blocks(parse_reference(repository), blob)))

    def push(
        self,
        image: ComposedImage,
        references: Sequence[str],
        *,
        base: str,
        open_layer: OpenLayer,
        open_blob: OpenBlob | None = None,
        local_base: Sequence[StoredLayer] = (),
        shared: str = "",
        progress: Progress,
    ) -> Pushed:
        """Have the image in a registry under all ``references``, which are tags of one repository.

        ``base`` is the repository that the base's layers are in; ``open_blob`` gives them as they are there (default:
        fetches them). A base that is in none is given as ``local_base``.
        ``shared`` is a repository of layers (``shared_layers``): what it has is not sent within one registry.
        Raises ``RegistryError``, ``HashMismatch``, ``DamagedLayer``, ``StorageError``.
        """
        names = [parse_reference(reference) for reference in references]
        target = names[0]
        if {name.repository for name in names} != {target.repository}:
            raise RegistryError("one push goes to one repository", hint="push to each of them")
        job = _Push(
            target=target,
            base=parse_reference(base) if base else None,
            exchange=self._exchange,
            open_blob=open_blob or (lambda blob: self.open(base, blob)),
            packed=self._packed,
            open_layer=open_layer,
            shared=parse_reference(shared) if shared else None,
        )
        ours = [*local_base, *image.layers]
        with closing(job):
            digest = job.run(image, ours, [name.target for name in names], progress)
        return Pushed(digest=digest, sent=job.bytes, blobs=job.blobs)

    def _exchange(self, name: Reference, *, base: str | None = None, also: Sequence[str] = ()) -> Exchange:
        return Exchange(name.registry, self._credentials, path=name.path, pause=self._pause, base=base, also=also)

    def _blocks(self, name: Reference, blob: Descriptor) -> Iterator[bytes]:
        with ExitStack() as stack:
            places = [*self._mirrors_of(name), None]
            registries = [stack.enter_context(closing(self._exchange(name, base=base))) for base in places]
            yield from blob_blocks(registries, blob)

    def _mirrors_of(self, name: Reference) -> list[str]:
        if name.registry != DEFAULT_REGISTRY:
            return []
        found = [url.rstrip("/") for url in self._mirrors()]
        return [url for url in found if url.startswith("https://") or is_loopback(urlsplit(url).hostname or "")]


class _Stopped(Exception):  # only ever seen inside this module: what stopped the others is raised
    """Another layer failed, or the user interrupted."""


class _Push:
    """One push; ``close`` ends its connections."""

    def __init__(
        self,
        *,
        target: Reference,
        base: Reference | None,
        exchange: Callable[..., Exchange],
        open_blob: OpenBlob,
        packed: PackedLayers,
        open_layer: OpenLayer,
        shared: Reference | None,
    ) -> None:
        self._base = base
        self._open_blob = open_blob
        self._packed = packed
        self._open_layer = open_layer
        self._target = target
        # Repositories of the same registry that blobs are mounted from.
        near = [one for one in (base, shared) if one is not None and one.registry == target.registry]
        self._near_base = base if base in near else None
        self._shared = shared if shared in near else None
        also = [f"repository:{one.path}:pull" for one in near]
        self._exchanges = Exchanges(lambda: exchange(target, also=also))
        self._sending = threading.Semaphore(_UPLOADS)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.bytes = 0
        self.blobs = 0

    def close(self) -> None:
        """End all connections."""
        self._exchanges.close()

    def run(self, image: ComposedImage, ours: Sequence[StoredLayer], targets: Sequence[str], progress: Progress) -> str:
        """Have everything there; return the manifest's digest."""
        config = oci.described(oci.CONFIG, image.config)
        with self._exchanges.one() as registry:  # the first question: its answer has the token for all others
            there = has_blob(registry, config.digest)
        total = sum(layer.size for layer in image.base_layers) + sum(layer.size for layer in ours)
        with progress.task(f"Pushing {self._target.name}", total=total, unit="B") as task:
            base_layers, layers = self._layers(image.base_layers, ours, task)
        manifest = oci.manifest(config, [*base_layers, *layers])
        digest = oci.digest_of(manifest)
        with self._exchanges.one() as registry:
            if not there:
                self._send(registry, config, io.BytesIO(image.config))
            for target in targets:
                put_manifest(registry, manifest, target=target, media_type=oci.MANIFEST, digest=digest)
        return digest

    def _layers(
        self, base: Sequence[Descriptor], ours: Sequence[StoredLayer], task: Task
    ) -> tuple[list[Descriptor], list[Descriptor]]:
        """Have all layers there, several at a time; return their descriptors in order."""
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            from_base = [pool.submit(self._base_layer, blob, task) for blob in dict.fromkeys(base)]
            own = [pool.submit(self._layer, layer, task) for layer in ours]
            try:
                for future in from_base:
                    future.result()
                return list(base), [future.result() for future in own]
            except BaseException:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _layer(self, layer: StoredLayer, task: Task) -> Descriptor:
        task.note(layer.title)
        known = self._packed.known(layer)
        with self._exchanges.one() as registry:
            if known is None or not (has_blob(registry, known.digest) or self._mounted(registry, known, self._shared)):
                with self._sending:
                    self._go_on()
                    with self._packed.packed(layer, self._open_layer) as (blob, file):
                        if known is not None or not has_blob(registry, blob.digest):
                            self._send(registry, blob, file)
                        known = blob
        task.advance(layer.size)
        return known

    def _base_layer(self, blob: Descriptor, task: Task) -> None:
        if self._base is None:
            raise RegistryError("the base's layers are in no registry", hint="give the base a registry, or lock again")
        with self._exchanges.one() as registry:
            if not (has_blob(registry, blob.digest) or self._mounted(registry, blob, self._near_base)):
                with self._sending:
                    self._go_on()
                    with closing(self._seekable(blob)) as file:
                        self._send(registry, blob, file)
        task.advance(blob.size)

    @staticmethod
    def _mounted(registry: Exchange, blob: Descriptor, source: Reference | None) -> bool:
        return source is not None and mount_blob(registry, blob.digest, source=source.path)

    def _send(self, registry: Exchange, blob: Descriptor, file: IO[bytes]) -> None:
        sent = send_blob(registry, blob, file, advance=self._go_on)
        with self._lock:
            self.bytes += sent
            self.blobs += 1

    def _seekable(self, blob: Descriptor) -> IO[bytes]:
        """Return a layer of the base as a file: the one that is on this machine already, or a copy."""
        stream = self._open_blob(blob)
        if stream.seekable():
            return stream
        with closing(stream):
            file = self._packed.scratch()
            try:
                while block := stream.read(_BLOCK):
                    self._go_on()
                    file.write(block)
            except OSError as error:
                file.close()
                raise StorageError(
                    f"cannot keep a layer of the base meanwhile: {error.strerror or error}",
                    hint="free some space there (ENVLOCK_CACHE_DIR)",
                ) from error
            except BaseException:
                file.close()
                raise
            return file

    def _go_on(self, _: int = 0) -> None:
        if self._stopped.is_set():
            raise _Stopped
