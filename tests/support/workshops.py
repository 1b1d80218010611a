"""Workshops for builds: the real parts on disk, and stand-ins for what talks to the world."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.guard import FileGuard
from envlock.adapters.image_readings import ImageReadings
from envlock.adapters.unfinished import FileUnfinished
from envlock.build import Workshop
from envlock.errors import RegistryError
from envlock.formats import oci
from envlock.formats.base_files import BaseFiles, read_layers
from envlock.layers.compiler import Compiler
from envlock.layers.store import LayerStore
from envlock.model.layers import ComposedImage
from envlock.model.lock import Base, Descriptor
from tests.support.composing import BaseInRegistry
from tests.support.layers import HereCompiler
from tests.support.progress import Remembering

NO_FILES: tuple[()] = ()


@dataclass
class FakeBase:
    """A base in memory; ``asked`` is what was wanted of it."""

    base: Base
    image: BaseInRegistry
    python_compiler: HereCompiler = field(default_factory=HereCompiler)
    asked: list[str] = field(default_factory=list)

    def config(self) -> bytes:
        return self.image.config

    def files(self) -> BaseFiles:
        return read_layers([io.BytesIO(self.image.layer)])

    def skeleton(self, venv: str) -> Mapping[str, Mapping[str, Any]]:
        self.asked.append("skeleton")
        return {f"{venv}/bin": {"folder": True}, f"{venv}/bin/python": {"link": "/usr/bin/python3"}}

    @contextmanager
    def compiler(self) -> Iterator[Compiler]:
        yield self.python_compiler

    def warm(self) -> None:
        self.asked.append("warm")

    def layer(self, blob: Descriptor) -> IO[bytes]:
        return io.BytesIO(self.image.layer)

    def local_layers(self) -> tuple[()]:
        return ()


@dataclass
class FakeBases:
    image: BaseInRegistry
    opened_bases: list[FakeBase] = field(default_factory=list)

    @contextmanager
    def opened(self, base: Base, *, platform: str) -> Iterator[FakeBase]:
        self.opened_bases.append(FakeBase(base, self.image))
        yield self.opened_bases[-1]

    @property
    def asked(self) -> list[str]:
        return [what for base in self.opened_bases for what in base.asked]


@dataclass
class FakePublisher:
    """Reads each layer, as pushing does; ``failing`` is raised once."""

    pushed: list[tuple[str, ...]] = field(default_factory=list)
    failing: list[Exception] = field(default_factory=list)

    def publish(self, image: ComposedImage, references: Sequence[str], *, base, open_layer, progress) -> str:
        for layer in image.layers:
            with open_layer(layer) as stream:
                stream.read()
        if self.failing:
            raise self.failing.pop()
        self.pushed.append(tuple(references))
        return oci.digest_of(b"manifest of " + image.config)

    def digest(self, image: ComposedImage) -> str | None:
        return None


class NoPublisher(FakePublisher):
    def publish(self, image: ComposedImage, references: Sequence[str], **_: Any) -> str:
        raise RegistryError("nobody asked for this")


@dataclass
class FakeLayouts:
    written: list[tuple[str, Path]] = field(default_factory=list)

    def check(self, target: Path) -> None:
        pass

    def write(self, image: ComposedImage, target: Path, **_: Any) -> str:
        self.written.append((image.image_id, target))
        return oci.digest_of(b"manifest of " + image.config)


def make_workshop(folder: Path, engine: Any, **parts: Any) -> Workshop:
    values: dict[str, Any] = {
        "engine": engine,
        "bases": None,
        "store": LayerStore(folder / "layers"),
        "artifacts": ArtifactStore(folder / "artifacts"),
        "publisher": FakePublisher(),
        "layouts": FakeLayouts(),
        "readings": ImageReadings(folder / "readings"),
        "unfinished": FileUnfinished(folder / "unfinished"),
        "guard": FileGuard(folder / "locks", waiting=pytest.fail),
        "progress": Remembering(),
    }
    return Workshop(**{**values, **parts})
