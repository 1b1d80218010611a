"""A blob from a registry as a stream: resumed where it breaks off, never more than its size, checked by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing

import requests

from envlock.adapters.registry.exchange import NOT_FOUND, Exchange, Passing, complaint
from envlock.errors import HashMismatch, RegistryError, UnknownImage
from envlock.model.lock import Descriptor

BLOCK = 256 << 10  # bytes
_OK, _PARTIAL = 200, 206


def blob_blocks(registries: Sequence[Exchange], blob: Descriptor) -> Iterator[bytes]:
    """Yield a blob's bytes; the last block only comes after all of them were found to be right.

    ``registries`` are mirrors, and last the registry itself: what one does not give, or stops giving, comes from the
    next. Raises ``UnknownImage`` where the repository has no such blob, ``HashMismatch``, ``RegistryError``.
    """
    digest, held = hashlib.sha256(), b""
    for block in _from_any(registries, blob):
        digest.update(block)
        if held:
            yield held
        held = block
    if f"sha256:{digest.hexdigest()}" != blob.digest:
        raise HashMismatch(
            f"{registries[-1].name} sent wrong bytes: expected {blob.digest}, found sha256:{digest.hexdigest()}",
            hint="something between here and the registry changes what it sends: a proxy, or a broken mirror?",
        )
    if held:
        yield held


def _from_any(registries: Sequence[Exchange], blob: Descriptor) -> Iterator[bytes]:
    offset = 0
    for registry in registries:
        try:
            for block in _resumed(registry, blob, offset, patient=registry is registries[-1]):
                offset += len(block)
                yield block
        except (RegistryError, UnknownImage):
            if registry is registries[-1]:
                raise
        if offset == blob.size:
            return


def _resumed(registry: Exchange, blob: Descriptor, offset: int, *, patient: bool) -> Iterator[bytes]:
    """Yield what follows ``offset``, going on where a connection broke."""
    pauses = list(registry.patience.pauses) if patient else []
    while offset < blob.size:
        try:
            for block in _from(registry, blob, offset):
                if offset + len(block) > blob.size:
                    raise HashMismatch(f"{registry.name} sends more than the {blob.size} bytes of {blob.digest[:19]}")
                offset += len(block)
                pauses = list(registry.patience.pauses)  # it moves: patience begins anew
                yield block
            if offset < blob.size:
                raise Passing("the registry ended early")  # noqa: TRY301 - one way for all that may pass
        except Passing as error:
            if not pauses:
                raise registry.given_up(error) from error
            pause = pauses.pop(0)
            registry.pause(error.asked or pause)


def _from(registry: Exchange, blob: Descriptor, offset: int) -> Iterator[bytes]:
    """Yield what follows ``offset``, also where the registry only gives everything."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    response = registry.ask("GET", f"/v2/{registry.path}/blobs/{blob.digest}", headers=headers, stream=True)
    with closing(response):
        if response.status_code == NOT_FOUND:
            raise UnknownImage(f"{registry.name} has no {blob.digest}", hint="was the image removed there?")
        if response.status_code not in (_OK, _PARTIAL):
            raise RegistryError(f"{registry.name} refused {blob.digest[:19]}: {complaint(response)}")
        skip = offset if response.status_code == _OK else 0
        try:
            for block in response.iter_content(BLOCK):
                if skip >= len(block):
                    skip -= len(block)
                    continue
                yield block[skip:]
                skip = 0
        except requests.RequestException as error:
            raise Passing(str(error)[:200], cause=error) from error
