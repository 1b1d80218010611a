"""Pushing without an engine (OCI distribution spec, push): what the registry lacks, in pieces that can be resumed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import requests

from envlock.adapters.registry.client import PAUSES
from envlock.adapters.registry.exchange import NOT_FOUND, Exchange, Passing, complaint
from envlock.errors import HashMismatch, RegistryError
from envlock.formats.oci import MANIFEST
from envlock.model.lock import Descriptor

# Bytes in one request: what is sent again at most after a broken connection, and what is in memory. Some registries
# take no more than 4 MiB at once; one that wants more says so.
PIECE = 4_000_000
_MOST = 64 << 20  # bytes in one request, whatever a registry wants
_COMMIT = 600.0  # seconds that a registry may take to put a whole layer in its place
_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _RANGE_WRONG = 200, 201, 202, 204, 416
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


def has_blob(registry: Exchange, digest: str) -> bool:
    """Return whether the repository has a blob; raises ``RegistryError``."""

    def ask() -> bool:
        response = registry.ask("HEAD", f"/v2/{registry.path}/blobs/{digest}")
        if response.status_code not in (_OK, NOT_FOUND):
            raise _refused(registry, f"asked for {digest[:19]}", response)
        return response.status_code == _OK

    return registry.patiently(ask)


def has_manifest(registry: Exchange, target: str) -> bool:
    """Return whether the repository has a manifest by a tag or digest; raises ``RegistryError``."""

    def ask() -> bool:
        response = registry.ask("HEAD", f"/v2/{registry.path}/manifests/{target}", headers={"Accept": MANIFEST})
        if response.status_code not in (_OK, NOT_FOUND):
            raise _refused(registry, f"asked for {target[:19]}", response)
        return response.status_code == _OK

    return registry.patiently(ask)


def mount_blob(registry: Exchange, digest: str, *, source: str) -> bool:
    """Have a blob of another repository of the same registry here, without sending it; False where it will not."""

    def ask() -> bool:
        query = urlencode({"mount": digest, "from": source})
        response = registry.ask("POST", f"/v2/{registry.path}/blobs/uploads/?{query}", headers={"Content-Length": "0"})
        if response.status_code == _ACCEPTED:  # it offers an upload in place of the mount; that is not for here
            registry.ask("DELETE", _location(registry, response))
        return response.status_code == _CREATED

    try:
        return registry.patiently(ask)
    except RegistryError:
        return False  # no access to the other repository, or no mounts at all: the blob is sent


def send_blob(
    registry: Exchange, blob: Descriptor, content: IO[bytes], *, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Upload a seekable file as a blob; return the bytes that went over the line.

    Goes on where it was after a broken connection. Raises ``RegistryError``, ``HashMismatch`` where the registry finds
    other bytes than the digest says.
    """
    upload = _Upload(registry, blob, content, advance)
    pauses = list(PAUSES)
    reached = 0
    while True:
        try:
            upload.go_on()
        except Passing as error:
            if upload.offset > reached:  # it moves: patience begins anew
                reached, pauses = upload.offset, list(PAUSES)
            if not pauses:
                raise registry.given_up(error) from error
            pause = pauses.pop(0)
            registry.pause(error.asked or pause)
        else:
            return upload.sent


def put_manifest(registry: Exchange, content: bytes, *, target: str, media_type: str, digest: str) -> None:
    """Give a manifest its tag (or put it by its digest alone); raises ``RegistryError``."""

    def ask() -> None:
        response = registry.ask(
            "PUT", f"/v2/{registry.path}/manifests/{target}", headers={"Content-Type": media_type}, body=content
        )
        if response.status_code not in (_OK, _CREATED, _ACCEPTED):
            raise _refused(registry, f"put the manifest {target}", response)
        said = response.headers.get("Docker-Content-Digest", digest)
        if said != digest:
            raise RegistryError(
                f"{registry.name} keeps {target} under another digest: expected {digest}, found {said}",
                hint="something between here and the registry changes what is sent: a proxy?",
            )

    registry.patiently(ask)


class _Upload:
    """One blob on its way; ``go_on`` asks the registry where it stands and sends the rest."""

    def __init__(
        self, registry: Exchange, blob: Descriptor, content: IO[bytes], advance: Callable[[int], None]
    ) -> None:
        self._registry = registry
        self._blob = blob
        self._content = content
        self._advance = advance
        self._location: str | None = None
        self._told = 0
        self._piece_size = PIECE
        self._unsure = False  # whether the registry has to be asked how far it got
        self.offset = 0
        self.sent = 0

    def go_on(self) -> None:
        if self._location is None or (self._unsure and not self._found()):
            if self._unsure and has_blob(self._registry, self._blob.digest):
                return  # it was complete, and the answer got lost
            self._begin()
        self._unsure = True
        while self.offset < self._blob.size:
            self._piece()
        self._finish()

    def _begin(self) -> None:
        response = self._registry.ask(
            "POST", f"/v2/{self._registry.path}/blobs/uploads/", headers={"Content-Length": "0"}
        )
        if response.status_code != _ACCEPTED:
            raise _refused(self._registry, "began an upload", response)
        self._location = _location(self._registry, response)
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        self._piece_size = min(max(PIECE, int(least)), _MOST) if least.isdecimal() else PIECE
        self.offset = 0

    def _found(self) -> bool:
        """Ask how far the upload got; False where the registry forgot it."""
        response = self._registry.ask("GET", self._location or "")
        if response.status_code not in (_OK, _ACCEPTED, _NO_CONTENT):
            self._location = None
            return False
        self._location = _location(self._registry, response, self._location)
        self.offset = _reached(response)
        return True

    def _piece(self) -> None:
        self._content.seek(self.offset)
        piece = self._content.read(min(self._piece_size, self._blob.size - self.offset))
        if not piece:
            raise HashMismatch(f"{self._blob.digest[:19]} became shorter while it was sent")
        last = self.offset + len(piece) - 1
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{self.offset}-{last}"}
        self.sent += len(piece)
        response = self._registry.ask("PATCH", self._location or "", headers=headers, body=piece)
        if response.status_code == _RANGE_WRONG:
            raise Passing(f"the registry stands elsewhere in the upload ({complaint(response)})")
        if response.status_code == NOT_FOUND:
            self._location = None
            raise Passing("the registry forgot the upload")
        if response.status_code not in (_ACCEPTED, _NO_CONTENT):
            raise _refused(self._registry, "sent a layer", response)
        self._location = _location(self._registry, response, self._location)
        # Not what its Range says: there are registries where that stays at the first piece. Were it right to say less,
        # the digest would tell in the end.
        self.offset = last + 1
        self._tell()

    def _tell(self) -> None:
        if self.offset > self._told:
            self._advance(self.offset - self._told)
            self._told = self.offset

    def _finish(self) -> None:
        url = _with_digest(self._location or "", self._blob.digest)
        response = self._registry.ask("PUT", url, headers={"Content-Length": "0"}, patience=_COMMIT)
        if response.status_code == NOT_FOUND:
            self._location = None
            if has_blob(self._registry, self._blob.digest):
                return  # done before, and the answer got lost
            raise Passing("the registry forgot the upload")
        if response.status_code not in (_CREATED, _NO_CONTENT, _ACCEPTED):
            words = complaint(response)
            if "DIGEST_INVALID" in words:
                raise HashMismatch(
                    f"{self._registry.name} received other bytes than were sent for {self._blob.digest[:19]}",
                    hint="something between here and the registry changes what is sent: a proxy?",
                )
            raise _refused(self._registry, "finished a layer", response)


def _location(registry: Exchange, response: requests.Response, known: str | None = None) -> str:
    found = response.headers.get("Location") or known
    if not found:
        raise RegistryError(f"{registry.name} does not say where to send a layer")
    return urljoin(response.url, found)


def _reached(response: requests.Response) -> int:
    found = _RANGE.fullmatch(response.headers.get("Range", ""))
    # "0-0" says nothing and one byte alike; a piece is always more than a byte, so it says nothing.
    return int(found[1]) + 1 if found and int(found[1]) > 0 else 0


def _with_digest(url: str, digest: str) -> str:
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), ("digest", digest)]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _refused(registry: Exchange, doing: str, response: requests.Response) -> RegistryError:
    return RegistryError(f"{registry.name} refused ({doing}): {complaint(response)}")
