"""A registry as a store of layers that several machines share: what one made, the others need not make again.

One repository holds layers and notes by content key, as artifacts (``formats/layer_artifact.py``). The blobs are those
of pushed images, so a push to the same registry mounts them. What is there first stays: no tag is ever moved.

**Trust.** Bytes are held against the hashes that the repository itself names. A content key says what a layer was made
*from*; that a blob really is what comes out of that, nobody can see without making it again. So **who may push to this
repository decides what is in the images that are built from it**: give that to CI alone, and let people read.
``envlock verify --rebuild`` makes everything again and compares.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Self

from envlock.adapters.docker_login import Credentials
from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry.client import Patience
from envlock.adapters.registry.download import blob_blocks
from envlock.adapters.registry.exchange import Exchange, Exchanges
from envlock.adapters.registry.pace import Pace
from envlock.errors import HashMismatch, UnknownImage, UsageError
from envlock.formats import layer_artifact as artifact
from envlock.formats import oci
from envlock.formats.gzip_members import METHOD, decompress, is_pinned
from envlock.formats.reference import Reference, parse_reference
from envlock.model.layers import OfferedLayer
from envlock.model.lock import Descriptor

# Making a layer takes seconds: a registry that needs longer to say anything at all is not worth waiting for.
BRIEF = Patience(timeout=(5, 20), pauses=(0.5, 2.0))


class SharedLayers:
    """Implements ``layers.remote.Remote``; closes its connections at the end of its context.

    ``repository`` is a reference without a tag (raises ``UsageError``, ``InputError``), ``environment`` says where
    Docker's credentials are. Of layers that came, ``packed`` remembers what they are compressed to: a push needs no
    more than that where the registry has them. ``pause`` and ``clock`` are in seconds.
    """

    def __init__(
        self,
        repository: str,
        environment: Mapping[str, str],
        *,
        packed: PackedLayers,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = parse_place(repository)
        self._credentials = Credentials(environment)
        self._packed = packed
        self._pause = pause
        self._pace = Pace(clock)
        self._exchanges = Exchanges(self._made)

    @property
    def name(self) -> str:
        """Return the repository."""
        return self._place.repository

    def find(self, key: str) -> OfferedLayer | None:
        """Return what the registry says of a layer. See ``layers.remote.Remote`` for this and the others."""
        content = self._manifest(artifact.layer_tag(key))
        return artifact.read_layer(content, key) if content is not None else None

    def blocks(self, offered: OfferedLayer) -> Generator[bytes, None, None]:
        """Yield a layer's tar; its last block only comes after the whole blob was found to be right."""
        with closing(self._blob(offered.blob)) as blob:
            yield from decompress(blob, limit=offered.layer.size)

    def arrived(self, offered: OfferedLayer) -> None:
        """Remember what the layer is compressed to, where that is what would come out here too."""
        if offered.packing == METHOD and is_pinned():
            self._packed.remember(offered.layer, offered.blob)

    def note(self, key: str) -> Any:
        """Return a note."""
        content = self._manifest(artifact.note_tag(key))
        if content is None:
            return None
        try:
            return json.loads(b"".join(self._blob(artifact.read_note(content, key))))
        except (ValueError, RecursionError) as error:
            raise HashMismatch("the note is not JSON") from error

    def close(self) -> None:
        """End all connections."""
        self._exchanges.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _manifest(self, tag: str) -> bytes | None:
        with self._exchanges.one() as registry:
            try:
                limit = artifact.MANIFEST_LIMIT
                return registry.get(registry.path, "manifests", tag, accept=oci.MANIFEST, limit=limit).content
            except UnknownImage:
                return None

    def _blob(self, blob: Descriptor) -> Generator[bytes, None, None]:
        with self._exchanges.one() as registry, self._pace.transfer() as passed:
            try:
                for block in blob_blocks([registry], blob):
                    passed(len(block))
                    yield block
            except UnknownImage as error:
                raise HashMismatch(f"the registry names {blob.digest[:19]}, and does not have it") from error

    def _made(self) -> Exchange:
        place = self._place
        return Exchange(place.registry, self._credentials, path=place.path, pause=self._pause, patience=BRIEF)


def parse_place(repository: str) -> Reference:
    """Return a repository for layers; raises ``InputError``, ``UsageError`` where it has a tag or digest."""
    found = parse_reference(repository)
    if found.tag or found.digest:
        raise UsageError(
            f"{repository} is one image, and layers are kept in a repository",
            hint=f"leave the tag out: {found.name}",
        )
    return found
