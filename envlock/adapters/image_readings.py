"""What was read inside images, kept on this machine: reading it again takes a container and a second."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from envlock.formats.structure import StructureError, from_plain, to_plain
from envlock.layers.claims import write_at_once
from envlock.model.image import Installed


class ImageReadings:
    """One small file for each image ID. It is a cache: what cannot be read or written is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, image_id: str) -> Installed | None:
        """Return what was read inside the image, or None."""
        try:
            return from_plain(Installed, json.loads(self._path(image_id).read_bytes()))
        except (OSError, ValueError, StructureError):
            return None

    def put(self, image_id: str, installed: Installed) -> None:
        """Remember it."""
        content = json.dumps(to_plain(installed), ensure_ascii=True, sort_keys=True)
        with suppress(OSError):
            write_at_once(self._path(image_id), content.encode())

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{image_id.rpartition(':')[2]}.json"
