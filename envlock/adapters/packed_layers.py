"""Layers as registries have them: compressed, the same bytes on every machine, and remembered by what they were."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from envlock.errors import StorageError
from envlock.formats import oci
from envlock.formats.gzip_members import METHOD, compress, is_pinned
from envlock.formats.oci_archive import OpenLayer, damaged
from envlock.layers.claims import write_at_once
from envlock.model.layers import StoredLayer
from envlock.model.lock import Descriptor


class PackedLayers:
    """Compresses layers into unnamed files, and remembers digest and size: who has a layer already needs no bytes.

    ``root`` is a folder that any number of processes share; what is remembered there is a few hundred bytes a layer.
    """

    def __init__(self, root: Path) -> None:
        # Another library gives other bytes: never under the pinned one's name.
        self._root = root / (METHOD if is_pinned() else "other")

    def known(self, layer: StoredLayer) -> Descriptor | None:
        """Return what the layer was compressed to before, or None."""
        try:
            data = json.loads(self._path(layer).read_bytes())
            found = Descriptor(media_type=oci.LAYER_GZIP, digest=str(data["digest"]), size=int(data["size"]))
            oci.hex_of(found.digest)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        except Exception:  # noqa: BLE001 - whatever the file holds, it is only a memory
            return None
        return found if data.get("diff_id") == layer.diff_id else None

    @contextmanager
    def packed(self, layer: StoredLayer, open_layer: OpenLayer) -> Iterator[tuple[Descriptor, IO[bytes]]]:
        """Give the compressed layer as a file that is gone afterwards, whatever happens.

        Raises ``DamagedLayer`` where the stored layer is not what it was, ``StorageError`` for a full disk.
        """
        with ExitStack() as stack:
            try:
                self._root.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(tempfile.TemporaryFile(dir=self._root))
                with closing(open_layer(layer)) as source:
                    made = compress(source, file.write)
                if made.diff_id != layer.diff_id:
                    raise damaged(layer, made.diff_id)
                file.seek(0)
            except OSError as error:
                raise StorageError(
                    f"cannot compress a layer in {self._root}: {error.strerror or error}", hint="free some space there"
                ) from error
            self.remember(layer, made.blob)
            yield made.blob, file

    def scratch(self) -> IO[bytes]:
        """Return an unnamed file beside what is compressed, as large as the disk allows; raises ``StorageError``."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self._root)
        except OSError as error:
            raise StorageError(f"cannot write to {self._root}: {error.strerror or error}") from error

    def remember(self, layer: StoredLayer, blob: Descriptor) -> None:
        """Remember what a layer is compressed to, by whatever ``METHOD`` names."""
        content = oci.canonical({"diff_id": layer.diff_id, "digest": blob.digest, "size": blob.size})
        path = self._path(layer)
        with suppress(OSError):
            write_at_once(path, content)

    def _path(self, layer: StoredLayer) -> Path:
        value = oci.hex_of(layer.diff_id)
        return self._root / value[:2] / f"{value}.json"
