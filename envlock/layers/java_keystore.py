"""Java's own key store format (JKS), as far as a list of trusted certificates needs it.

Debian's ca-certificates-java writes one when it is installed, with the time of day beside each certificate.
"""

from __future__ import annotations

import hashlib
import struct

_HEAD = struct.Struct(">III")  # magic, version, number of entries
_MAGIC, _VERSION = 0xFEEDFEED, 2
_CERTIFICATE = 2  # tag of a trusted certificate
_DIGEST = 20
_PASSWORD = "changeit"  # noqa: S105 - Java's default, in every distribution's documentation
_SALT = b"Mighty Aphrodite"  # sun.security.provider.JavaKeyStore


def dated(store: bytes, seconds: int) -> bytes:
    """Return a key store with all its dates set, and sealed again.

    What is not such a store (another format or password, private keys in it, a wrong digest) is returned as it is.
    """
    if len(store) < _HEAD.size + _DIGEST or store[-_DIGEST:] != _seal(store[:-_DIGEST]):
        return store
    magic, version, count = _HEAD.unpack_from(store)
    if (magic, version) != (_MAGIC, _VERSION):
        return store
    body = bytearray(store[:-_DIGEST])
    place = _HEAD.size
    try:
        for _ in range(count):
            place = _date_entry(body, place, seconds * 1000)
    except (struct.error, ValueError):
        return store
    return bytes(body) + _seal(body) if place == len(body) else store


def _date_entry(body: bytearray, place: int, milliseconds: int) -> int:
    tag, name_size = struct.unpack_from(">IH", body, place)
    if tag != _CERTIFICATE:
        raise ValueError("no certificate")
    place += 6 + name_size
    struct.pack_into(">Q", body, place, milliseconds)
    (type_size,) = struct.unpack_from(">H", body, place + 8)
    (size,) = struct.unpack_from(">I", body, place + 10 + type_size)
    return int(place + 14 + type_size + size)


def _seal(body: bytes | bytearray) -> bytes:
    return hashlib.sha1(_PASSWORD.encode("utf-16-be") + _SALT + body, usedforsecurity=False).digest()
