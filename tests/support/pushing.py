"""A registry on loopback, an image, and pushing the one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry.push import Blobs, Pushed
from envlock.model.layers import ComposedImage
from tests.support.blob_registry import BlobRegistry, blob_registry
from tests.support.composing import Layers, base_in_registry
from tests.support.progress import Remembering

BASE = base_in_registry()


@contextmanager
def registry_with_base() -> Iterator[BlobRegistry]:
    with blob_registry() as found:
        found.add("envlock/base", BASE.layer)
        found.add("envlock/base", BASE.config)
        yield found


def blobs_of(folder: Path, pauses: list[float] | None = None, **more: Any) -> Blobs:
    return Blobs(
        {"HOME": str(folder)},
        packed=PackedLayers(folder / "packed"),
        pause=(pauses if pauses is not None else []).append,
        **more,
    )


def push(registry: BlobRegistry, folder: Path, store: Layers, image: ComposedImage, *tags: str, **more: Any) -> Pushed:
    return blobs_of(folder, more.pop("pauses", None)).push(
        image,
        [f"{registry.host}/team/demo:{tag}" for tag in tags or ("v1",)],
        base=more.pop("base", f"{registry.host}/envlock/base"),
        open_layer=store.open,
        progress=Remembering(),
        **more,
    )


def once(registry: BlobRegistry, method: str, times: int, act: Callable[[Any], object]) -> None:
    left = [times]

    def fault(handler) -> bool:
        with registry.lock:
            if handler.command != method or left[0] == 0:
                return False
            left[0] -= 1
        act(handler)
        return True

    registry.fault = fault


def dropped(handler: Any) -> None:
    handler.drop()
