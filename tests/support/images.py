"""An engine with images in memory, for tests that only look inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from envlock.errors import InputError
from envlock.ports import Completed, EngineImage


def make_engine_image(**overrides: Any) -> EngineImage:
    image = EngineImage(
        id="sha256:" + "3" * 64,
        tags=("demo:latest",),
        digests=(),
        diff_ids=(),
        platform="linux/amd64",
        env={"PATH": "/usr/bin"},
        labels={},
        user="",
        workdir="/",
        entrypoint=(),
        size=1,
    )
    return replace(image, **overrides)


@dataclass
class FakeContainer:
    files: Mapping[str, bytes]
    programs: Mapping[str, Completed]  # first argument → what running it gives
    ran: list[Sequence[str]] = field(default_factory=list)

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        self.ran.append(argv)
        if "pip" in argv:
            return self.programs["pip"]
        return self.programs.get(argv[0], Completed(exit_code=127, stdout=b"", stderr=b"no such file"))


class FakeEngine:
    """Has one image; ``container`` is None where nothing can run in it."""

    def __init__(self, image: EngineImage, container: FakeContainer | None = None) -> None:
        self._image = image
        self._container = container

    def find(self, reference: str) -> EngineImage | None:
        return self._image if reference in {*self._image.tags, self._image.id} else None

    @contextmanager
    def container(self, image: str, **_: Any) -> Iterator[FakeContainer]:
        if self._container is None:
            raise InputError(f"the image {image} has no Python 3", hint="choose another")
        yield self._container


def probe_answer(packages: Mapping[str, str], *, torch: str | None = None, cuda: str | None = None) -> Completed:
    answer = {
        "version": "3.11.2",
        "full": "3.11.2 (main) [GCC]",
        "packages": dict(packages),
        "torch": torch,
        "cuda": cuda,
    }
    return Completed(exit_code=0, stdout=json.dumps(answer).encode(), stderr=b"")
