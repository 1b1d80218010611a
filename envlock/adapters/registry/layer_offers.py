"""Giving layers and notes to the repository that machines share (``shared_layers``): what it lacks, once for all."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from envlock.adapters.docker_login import Credentials
from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry.exchange import Exchange, Exchanges
from envlock.adapters.registry.shared_layers import parse_place
from envlock.adapters.registry.upload import has_blob, has_manifest, put_manifest, send_blob
from envlock.formats import layer_artifact as artifact
from envlock.formats import oci
from envlock.formats.gzip_members import METHOD, is_pinned
from envlock.formats.oci_archive import OpenLayer
from envlock.model.layers import StoredLayer
from envlock.model.lock import Descriptor
from envlock.ports import Progress, Task

_AT_A_TIME = 4  # one is compressed, on all cores, while others are on the line


@dataclass(frozen=True, kw_only=True, slots=True)
class Offered:
    """What offering came to."""

    layers: int  # that were not there before
    notes: int
    sent: int  # bytes of blobs that went over the line


class LayerOffers:
    """One repository that layers are given to. ``repository``, ``environment``, ``packed`` as for ``SharedLayers``."""

    def __init__(
        self,
        repository: str,
        environment: Mapping[str, str],
        *,
        packed: PackedLayers,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._place = parse_place(repository)
        self._credentials = Credentials(environment)
        self._packed = packed
        self._pause = pause

    @property
    def name(self) -> str:
        """Return the repository."""
        return self._place.repository

    def offer(
        self, layers: Sequence[StoredLayer], notes: Mapping[str, Any], *, open_layer: OpenLayer, progress: Progress
    ) -> Offered:
        """Have layers and notes (JSON, by key) in the repository; what is there already stays as it is.

        Raises ``RegistryError``, ``HashMismatch``, ``DamagedLayer``, ``StorageError``; what was given by then stays.
        """
        total = sum(layer.size for layer in layers)
        with (
            progress.task(f"Sharing layers with {self.name}", total=total, unit="B") as task,
            ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="offer") as pool,
        ):
            job = _Offer(self._exchange, self._packed, open_layer, task)
            futures = [pool.submit(job.layer, layer) for layer in layers]
            futures += [pool.submit(job.note, key, note) for key, note in notes.items()]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                job.stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                job.close()
        return Offered(layers=job.layers, notes=job.notes, sent=job.sent)

    def _exchange(self) -> Exchange:
        return Exchange(self._place.registry, self._credentials, path=self._place.path, pause=self._pause)


class _Stopped(Exception):  # only ever seen inside this module: what stopped the others is raised
    """Another transfer failed, or the user interrupted."""


class _Offer:
    """One offering, in several threads."""

    def __init__(
        self, exchange: Callable[[], Exchange], packed: PackedLayers, open_layer: OpenLayer, task: Task
    ) -> None:
        self._exchanges = Exchanges(exchange)
        self._packed = packed
        self._open_layer = open_layer
        self._task = task
        self._lock = threading.Lock()
        self._first = threading.Lock()  # whoever comes first sends the blob that all manifests name
        self._has_empty = False
        self.stopped = threading.Event()
        self.layers = self.notes = self.sent = 0

    def close(self) -> None:
        """End all connections."""
        self._exchanges.close()

    def layer(self, layer: StoredLayer) -> None:
        """Have a layer there."""
        with self._exchange() as registry:
            tag = artifact.layer_tag(layer.key)
            if not has_manifest(registry, tag):
                self._task.note(layer.title)
                known = self._packed.known(layer)
                if known is None or not has_blob(registry, known.digest):
                    with self._packed.packed(layer, self._open_layer) as (blob, file):
                        self._send(registry, blob, file)
                        known = blob
                packing = METHOD if is_pinned() else "other"
                if self._name(registry, tag, artifact.layer_manifest(layer, known, packing=packing)):
                    with self._lock:
                        self.layers += 1
        self._task.advance(layer.size)

    def note(self, key: str, note: Any) -> None:
        """Have a note there."""
        with self._exchange() as registry:
            tag = artifact.note_tag(key)
            if has_manifest(registry, tag):
                return
            content = oci.canonical(note)
            blob = oci.described(artifact.NOTE_JSON, content)
            self._send(registry, blob, io.BytesIO(content))
            if self._name(registry, tag, artifact.note_manifest(key, blob)):
                with self._lock:
                    self.notes += 1

    @contextmanager
    def _exchange(self) -> Iterator[Exchange]:
        if self.stopped.is_set():
            raise _Stopped
        with self._exchanges.one() as registry:
            yield registry

    def _send(self, registry: Exchange, blob: Descriptor, content: IO[bytes]) -> None:
        if not has_blob(registry, blob.digest):
            sent = send_blob(registry, blob, content, advance=self._moved)
            with self._lock:
                self.sent += sent

    def _moved(self, _: int) -> None:
        if self.stopped.is_set():
            raise _Stopped

    def _name(self, registry: Exchange, tag: str, manifest: bytes) -> bool:
        """Give a manifest its tag, unless somebody else was faster; no registry can do that in one step."""
        with self._first:
            if not self._has_empty:
                self._send(registry, oci.described(artifact.EMPTY_TYPE, artifact.EMPTY), io.BytesIO(artifact.EMPTY))
                self._has_empty = True
        if has_manifest(registry, tag):
            return False
        digest = oci.digest_of(manifest)
        put_manifest(registry, manifest, target=tag, media_type=oci.MANIFEST, digest=digest)
        return True
