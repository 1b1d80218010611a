"""Layers and notes as artifacts in a registry (OCI image spec 1.1, guidelines for artifact usage), one manifest each.

::

    layer-<key>   artifactType application/vnd.envlock.layer.v1, one layer: the blob that images have too
    note-<key>    artifactType application/vnd.envlock.note.v1, one layer: the note, as JSON

What a manifest says is somebody's word: reading is strict, and whoever takes the blob holds it against hash and size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from envlock.errors import HashMismatch
from envlock.formats import oci
from envlock.formats.gzip_members import METHOD
from envlock.formats.text import is_one_line
from envlock.model.layers import OfferedLayer, StoredLayer
from envlock.model.lock import Descriptor

LAYER = "application/vnd.envlock.layer.v1"
NOTE = "application/vnd.envlock.note.v1"
NOTE_JSON = "application/vnd.envlock.note.v1+json"

# The configuration of an artifact that has none (OCI image spec 1.1, guidance for an empty descriptor).
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

MANIFEST_LIMIT = 64 << 10  # bytes; ours have a thousand
LARGEST_LAYER = 64 << 30  # bytes of tar, and of blob; the largest wheels unpack to a tenth of that
LARGEST_NOTE = 16 << 20  # bytes; torch's list of files has one
_LONGEST_TITLE = 300  # characters

_KEY = "org.envlock.key"
_DIFF_ID = "org.envlock.layer.diff-id"
_SIZE = "org.envlock.layer.size"
_PACKING = "org.envlock.layer.packing"
_TITLE = "org.opencontainers.image.title"

_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")


def layer_tag(key: str) -> str:
    """Return the tag of a layer; ``key`` is 64 hexadecimal digits."""
    return f"layer-{_checked(key)}"


def note_tag(key: str) -> str:
    """Return the tag of a note."""
    return f"note-{_checked(key)}"


def layer_manifest(layer: StoredLayer, blob: Descriptor, *, packing: str) -> bytes:
    """Return the manifest of a layer; ``packing`` says by what ``blob`` was compressed."""
    annotations = {
        _KEY: layer.key,
        _DIFF_ID: layer.diff_id,
        _SIZE: str(layer.size),
        _PACKING: packing,
        _TITLE: layer.title[:_LONGEST_TITLE],
    }
    return _manifest(LAYER, blob, annotations)


def note_manifest(key: str, blob: Descriptor) -> bytes:
    """Return the manifest of a note."""
    return _manifest(NOTE, blob, {_KEY: key})


def read_layer(content: bytes, key: str) -> OfferedLayer:
    """Return what a manifest says of a layer; raises ``HashMismatch`` for whatever is not as we write it."""
    blob, said = _read(content, LAYER, key)
    wrong = _wrong(blob, oci.LAYER_GZIP, LARGEST_LAYER) or next(
        (name for name, sound in _SOUND.items() if not sound(said.get(name))), None
    )
    if wrong:
        raise _refused(f"its {wrong} is none")
    return OfferedLayer(
        layer=StoredLayer(key=key, diff_id=said[_DIFF_ID], size=int(said[_SIZE]), title=said[_TITLE]),
        blob=_descriptor(blob),
        packing=said[_PACKING] if said[_PACKING] == METHOD else "other",
    )


def read_note(content: bytes, key: str) -> Descriptor:
    """Return where a note's manifest says that it is; raises as ``read_layer``."""
    blob, _ = _read(content, NOTE, key)
    if wrong := _wrong(blob, NOTE_JSON, LARGEST_NOTE):
        raise _refused(f"its {wrong} is none")
    return _descriptor(blob)


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None and int(value) <= LARGEST_LAYER


def _is_title(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TITLE and is_one_line(value) and value.isprintable()


_SOUND: dict[str, Callable[[Any], bool]] = {
    _DIFF_ID: lambda value: isinstance(value, str) and _DIGEST.fullmatch(value) is not None,
    _SIZE: _is_number,
    _TITLE: _is_title,
    _PACKING: lambda value: isinstance(value, str),
}


def _manifest(kind: str, blob: Descriptor, annotations: dict[str, str]) -> bytes:
    config = oci.described(EMPTY_TYPE, EMPTY)
    return oci.canonical(
        {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "artifactType": kind,
            "config": {"mediaType": config.media_type, "digest": config.digest, "size": config.size},
            "layers": [{"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}],
            "annotations": annotations,
        }
    )


def _read(content: bytes, kind: str, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a manifest's only blob, of which nothing is known yet, and its annotations."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or (data.get("mediaType"), data.get("artifactType")) != (oci.MANIFEST, kind):
        raise _refused(f"it is no manifest of {kind}")
    layers, annotations = data.get("layers"), data.get("annotations")
    if not isinstance(layers, list) or len(layers) != 1 or not isinstance(layers[0], dict):
        raise _refused("it has not one blob")
    if not isinstance(annotations, dict) or annotations.get(_KEY) != key:
        raise _refused("it is of another key")
    return layers[0], annotations


def _wrong(blob: dict[str, Any], media_type: str, most: int) -> str | None:
    """Return what of a descriptor is not as it should be."""
    digest, size = blob.get("digest"), blob.get("size")
    if blob.get("mediaType") != media_type:
        return "type"
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return "digest"
    return None if type(size) is int and 0 < size <= most else "size"


def _descriptor(blob: dict[str, Any]) -> Descriptor:
    return Descriptor(media_type=blob["mediaType"], digest=blob["digest"], size=blob["size"])


def _checked(key: str) -> str:
    if not _HEX.fullmatch(key):
        raise ValueError(key)
    return key


def _refused(why: str) -> HashMismatch:
    return HashMismatch(f"the registry's manifest is not one of ours: {why}")
