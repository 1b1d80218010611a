"""What a build works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from envlock.compose import Installer
from envlock.formats.oci_archive import OpenLayer
from envlock.layers.store import LayerStore
from envlock.model.image import Installed
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.ports import Artifacts, Bases, Engine, OpenedBase, Progress


class Readings(Protocol):
    """What was read inside images before, by image ID: an image never changes."""

    def get(self, image_id: str) -> Installed | None:
        """Return what was read, or None."""

    def put(self, image_id: str, installed: Installed) -> None:
        """Remember it."""


class Left(Protocol):
    """An image that was on its way to the engine when a build ended."""

    @property
    def ids(self) -> Sequence[str]:
        """Return all that the engine may call it."""

    @property
    def old(self) -> bool:
        """Say whether it would be there by now, if it came at all."""

    def forget(self) -> None:
        """Remember it no longer."""


class Unfinished(Protocol):
    """What engines were being given when builds ended: they cannot be stopped."""

    def sending(self, ids: Sequence[str]) -> AbstractContextManager[Callable[[], None]]:
        """Hold an image; what the context gives remembers it until that ends well."""

    def left(self) -> Iterator[Left]:
        """Yield what nobody sends any more, held until the next one is asked for."""


class Builder(Engine, Installer, Protocol):
    """An engine that can also install system packages in a container."""


class Publisher(Protocol):
    """Registries, for composed images."""

    def publish(
        self,
        image: ComposedImage,
        references: Sequence[str],
        *,
        base: OpenedBase,
        open_layer: OpenLayer,
        progress: Progress,
    ) -> str:
        """Have the image under all names, and return its manifest digest; sends what is lacking there.

        Raises ``RegistryError``, ``HashMismatch``, ``DamagedLayer``, ``StorageError``.
        """

    def digest(self, image: ComposedImage, *, open_layer: OpenLayer | None = None) -> str | None:
        """Return the manifest digest where all layers were compressed here before, or are now (``open_layer``).

        Raises ``DamagedLayer``, ``StorageError``.
        """


class Offer(Protocol):
    """A repository of layers, which other machines take them from."""

    def __call__(
        self, layers: Sequence[StoredLayer], notes: Mapping[str, Any], *, open_layer: OpenLayer, progress: Progress
    ) -> object:
        """Give it layers, and notes (JSON, by key); what it has stays as it is.

        Raises ``RegistryError``, ``HashMismatch``, ``DamagedLayer``, ``StorageError``.
        """


class Layouts(Protocol):
    """OCI layouts on this machine's disk."""

    def check(self, target: Path) -> None:
        """Say whether an image may be written there, before it is made; raises as ``write``."""

    def write(
        self,
        image: ComposedImage,
        target: Path,
        *,
        platform: str,
        names: Sequence[str],
        base: OpenedBase,
        open_layer: OpenLayer,
        progress: Progress,
    ) -> str:
        """Write the image to a folder, or to one file where the name ends in ".tar"; return its manifest digest.

        Raises ``UsageError`` for a place that holds something else, ``StorageError``, and what reading layers raises.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """Everything that a build asks."""

    engine: Builder | None  # None: there is none, or none is wanted
    bases: Bases
    store: LayerStore
    artifacts: Artifacts
    publisher: Publisher
    layouts: Layouts
    readings: Readings
    unfinished: Unfinished
    offer: Offer | None = None  # where made layers are shared
    guard: Callable[[str], AbstractContextManager[None]]  # one build at a time of the thing with this name
    progress: Progress


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure one step; a step that is done twice counts twice."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = round(self.seconds.get(step, 0) + perf_counter() - start, 3)


__all__ = [
    "Builder",
    "Layouts",
    "Left",
    "Offer",
    "Publisher",
    "Readings",
    "Stopwatch",
    "StoredLayer",
    "Unfinished",
    "Workshop",
]
