"""Handing an image to the engine: only what it lacks, as a stream.

What an engine has cannot be asked for directly; it shows in the images that it has. With overlay2 a layer is there when
the whole stack up to it (its chain) is; the containerd image store keeps each blob by itself. Sending too much costs
time only. Sending too little (an image was removed a moment ago) makes the engine refuse, and then it gets everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import docker.errors

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.failures import disk_full, explanation, is_disk_full
from envlock.errors import EngineError
from envlock.formats import oci
from envlock.formats.oci_archive import Loadable, archive, layer_file
from envlock.formats.urls import scrub
from envlock.model.layers import StoredLayer
from envlock.model.plan import FINGERPRINT_LABEL
from envlock.ports import Coming, Loaded, Progress, Supplies

_ENOUGH_IMAGES = 60  # looked at, the likeliest first: 1 to 3 ms each
_ENOUGH_RELATED = 8  # looked at where one of them shares layers that are ours
_TITLE = "org.opencontainers.image.title"
_LOADED = re.compile(r"Loaded image(?: ID)?: (?P<name>\S+)")
_SMALL = 256 << 10  # bytes; smaller pieces travel together


def load(connection: Connection, image: Loadable, supplies: Supplies, *, progress: Progress) -> Loaded:
    """Have the image in the engine, without a name.

    Raises ``EngineError``, ``DamagedLayer`` where a stored layer is not what it was, and what the supplies raise.
    """
    # An engine knows the image by one of these, and nothing by the other; asking which kind it is takes ten times as
    # long.
    for name in (image.image.image_id, image.digest):
        found = _inspected(connection, name)
        if found is not None:
            return Loaded(id=str(found["Id"]), sent=0, layers=0)
    known = _known(connection, image, near=supplies.near)
    lacking = _lacking(connection, image, known)
    whole = Coming(below=image, above=(), image=lambda: image)
    return _Load(connection, whole, known, progress, total=sum(layer.size for layer in lacking)).run(supplies)


def load_early(connection: Connection, coming: Coming, supplies: Supplies, *, progress: Progress) -> Loaded:
    """Have an image of which some layers are still to come; see ``ports.Engine``. Raises as ``load`` does.

    An archive's files may come in any order, and engines look at it when it is whole: so what lies above the changed
    layers can be on its way while those are being made.
    """
    if connection.keeps_blobs:  # it has what lies above
        return load(connection, coming.image(), supplies, progress=progress)
    known = _known(connection, coming.below, near=supplies.near)
    return _Load(connection, coming, known, progress).run(supplies)


def lacks(connection: Connection, image: Loadable) -> int:
    """Return how many bytes of layers loading this image would send."""
    return sum(layer.size for layer in _lacking(connection, image, _known(connection, image)))


def _lacking(connection: Connection, image: Loadable, known: Sequence[tuple[str, ...]]) -> list[StoredLayer]:
    present = _present(known, image, connection.keeps_blobs)
    return [layer for layer in image.image.layers if layer.diff_id not in present]


def _known(connection: Connection, image: Loadable, *, near: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Return the layers of images that are likely to share some: those of the same making, and bases."""
    wanted = image.image.diff_ids
    count = len(image.image.base_diff_ids)
    found: list[tuple[str, ...]] = []
    for number, image_id in enumerate(_near_and_far(connection, image, near)):
        if number >= _ENOUGH_RELATED and _covers(found, wanted[: count + 1]):
            break
        layers = _diff_ids(connection, image_id)
        if layers is None or layers[:1] != wanted[:1]:
            continue
        found.append(layers)
        if layers[: len(wanted)] == wanted:
            break
    if not _covers(found, wanted[:count]):
        # The base is no image of ours, and it may have been pulled by any name.
        base = image.image.base_diff_ids
        for image_id in _all(connection):
            layers = _diff_ids(connection, image_id)
            if layers is not None and layers[: len(base)] == base:
                found.append(layers)
                break
    return found


def _near_and_far(connection: Connection, image: Loadable, near: Sequence[str]) -> Iterator[str]:
    yield from near
    yield from (other for other in _candidates(connection, image) if other not in near)


def _candidates(connection: Connection, image: Loadable) -> list[str]:
    """Return images of envlock's making: of the same name first, and those that were made for a later commit."""
    with connection.reported("looking at its images"):
        ours = connection.api.images(filters={"label": FINGERPRINT_LABEL})
    title = image.image.labels.get(_TITLE)

    def likelihood(row: dict[str, Any]) -> tuple[bool, int]:
        return (row.get("Labels") or {}).get(_TITLE) != title, -int(row.get("Created") or 0)

    return [str(row["Id"]) for row in sorted(ours, key=likelihood)[:_ENOUGH_IMAGES]]


def _all(connection: Connection) -> list[str]:
    with connection.reported("looking at its images"):
        return [str(image["Id"]) for image in connection.api.images()]


def _diff_ids(connection: Connection, image_id: str) -> tuple[str, ...] | None:
    """Return the layers of an image that was there a moment ago."""
    if image_id not in connection.layers:
        found = _inspected(connection, image_id)
        if found is None:
            return None
        connection.layers[image_id] = _layers(found)
    return connection.layers[image_id]


def _layers(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple((found.get("RootFS") or {}).get("Layers") or ())


def _inspected(connection: Connection, image_id: str) -> Mapping[str, Any] | None:
    with connection.reported(f"looking at {image_id[:19]}"), suppress(docker.errors.NotFound):
        found: Mapping[str, Any] = connection.api.inspect_image(image_id)
        return found
    return None


def _covers(known: Iterable[tuple[str, ...]], stack: tuple[str, ...]) -> bool:
    return any(layers[: len(stack)] == stack for layers in known)


def _present(known: Sequence[tuple[str, ...]], image: Loadable, per_blob: bool) -> set[str]:
    """Return the digests of our own layers that need not be sent."""
    ours = [layer.diff_id for layer in image.image.layers]
    if per_blob:
        return set(ours) & {layer for layers in known for layer in layers}
    chains = {chain for layers in known for chain in oci.chain_ids(layers)}
    there = oci.chain_ids(image.image.diff_ids)[len(image.image.base_diff_ids) :]
    return {layer for layer, chain in zip(ours, there, strict=True) if chain in chains}


class _Lacking(EngineError):
    """The engine misses a layer that we took it to have."""


class _Counted:
    """An archive on its way: how much of it went out, and what went wrong on this side."""

    def __init__(self, blocks: Generator[bytes], advance: Callable[[int], None]) -> None:
        self._blocks = blocks
        self._advance = advance
        self.sent = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        try:
            for block in self._blocks:
                held.append(block)
                size += len(block)
                if size >= _SMALL:
                    yield self._out(held)
                    held, size = [], 0
        except BaseException as error:
            self.error = error
            raise
        if size:
            yield self._out(held)

    def close(self) -> None:
        """End it, wherever it is."""
        self._blocks.close()

    def _out(self, held: list[bytes]) -> bytes:
        block = held[0] if len(held) == 1 else b"".join(held)
        self.sent += len(block)
        self._advance(len(block))
        return block


class _Load:
    """One image on its way; ``known`` has the layers of images that the engine has."""

    def __init__(
        self,
        connection: Connection,
        coming: Coming,
        known: Sequence[tuple[str, ...]],
        progress: Progress,
        *,
        total: int | None = None,
    ) -> None:
        self._connection = connection
        self._coming = coming
        self._known = known
        self._progress = progress
        self._total = total

    def run(self, supplies: Supplies) -> Loaded:
        """Send what is lacking, what lies above first; where that turns out to be too little, everything."""
        base_there = _covers(self._known, self._coming.below.image.base_diff_ids)
        if not base_there and supplies.pull_base is not None:
            supplies.pull_base()
            base_there = True
        without_base = Supplies(open_layer=supplies.open_layer)
        try:
            return self._send(without_base if base_there else supplies, self._coming.above)
        except _Lacking:
            # Something went away in the meantime.
            if supplies.pull_base is not None:
                supplies.pull_base()
            self._known, self._total = (), None
            try:
                return self._send(supplies, ())
            except _Lacking as error:
                raise EngineError(
                    "the engine does not take the image: layers of its base are missing there",
                    hint="is another program removing images? run the command again",
                    details=error.details,
                ) from error

    def _send(self, supplies: Supplies, above: Sequence[StoredLayer]) -> Loaded:
        with self._progress.task("Loading the image into the engine", total=self._total or None, unit="B") as task:
            body = _Counted(self._archive(supplies, above), task.advance)
            try:
                with self._connection.reported("loading the image", also=_refused):
                    name = _follow(self._connection.api, body)
            except EngineError:
                if body.error is not None:
                    raise body.error from None  # the engine only saw that the stream ended
                raise
            finally:
                body.close()
        image = self._coming.image()
        layers = len({*above, *_lacking(self._connection, image, self._known)})
        return Loaded(id=_loaded_as(self._connection, image, name), sent=body.sent, layers=layers)

    def _archive(self, supplies: Supplies, above: Sequence[StoredLayer]) -> Generator[bytes]:
        for layer in above:
            yield from layer_file(layer, supplies.open_layer)
        image = self._coming.image()
        absent = _present(self._known, image, self._connection.keeps_blobs) | {layer.diff_id for layer in above}
        yield from archive(image, without=absent, open_layer=supplies.open_layer, open_blob=supplies.open_blob)


def _follow(api: Any, body: _Counted) -> str:
    """Send the archive and read the answers to their end; return the name or ID that the engine tells."""
    name = ""
    for answer in api.load_image(iter(body), quiet=True):
        if words := answer.get("error") or (answer.get("errorDetail") or {}).get("message"):
            raise _failure(str(words))
        if found := _LOADED.search(str(answer.get("stream", ""))):
            name = found["name"]
    return name


def _loaded_as(connection: Connection, image: Loadable, name: str) -> str:
    """Return the loaded image's ID, held against what was sent."""
    for candidate in dict.fromkeys((image.image.image_id, image.digest, name)):
        found = _inspected(connection, candidate) if candidate else None
        if found is not None and _layers(found) == image.image.diff_ids:
            return str(found["Id"])
    raise _Lacking(f"the engine loaded the image and does not have it (it says {name or 'nothing'})")


def _refused(error: docker.errors.APIError) -> EngineError | None:
    return _failure(explanation(error))


def _failure(words: str) -> EngineError:
    words = scrub(" ".join(words.split()))
    if is_disk_full(words):
        return disk_full("loading the image", words)
    # The first from overlay2, where a file is not in the archive; the second from containerd, for a blob.
    if re.search(r"no such file or directory|not found|invalid diffID|does not exist", words, re.IGNORECASE):
        return _Lacking("the engine lacks a layer of the image", details=[words])
    return EngineError(f"the engine refused the image: {words}")
