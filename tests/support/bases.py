"""Bases in memory: what a registry and an engine would say of them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.bases.in_engine import EngineBases
from envlock.adapters.bases.listing import PROGRAM as LISTING
from envlock.adapters.bases.without_engine import UnpackedBases
from envlock.errors import RegistryError, UnknownImage
from envlock.formats import oci
from envlock.formats.base_files import BaseFiles, as_json
from envlock.layers.skeleton import PROGRAM as SKELETON
from envlock.layers.store import LayerStore
from envlock.model.lock import Base, Descriptor
from envlock.ports import Completed, Manifest
from tests.support.fake_engine import FakeContainer, FakeEngine, FakePipe, completed
from tests.support.locks import make_base
from tests.support.progress import Remembering
from tests.support.tars import PACKERS, Made, entry, tar

PLATFORM = "linux/amd64"


@dataclass
class MadeBase:
    """A base of these layers (tars, bottom first), as it is in a registry."""

    layers: Sequence[bytes]
    packing: str = ".gz"
    volumes: Sequence[str] = ()
    content: dict[str, bytes] = field(default_factory=dict)  # digest → blob

    def __post_init__(self) -> None:
        self.diff_ids = tuple(oci.digest_of(layer) for layer in self.layers)
        self.blobs = [self._blob(PACKERS[self.packing](layer)) for layer in self.layers]
        self.config = json.dumps(
            {
                "config": {"Volumes": {volume: {} for volume in self.volumes}},
                "rootfs": {"diff_ids": list(self.diff_ids)},
            }
        ).encode()
        self._blob(self.config)

    def _blob(self, content: bytes) -> Descriptor:
        self.content[oci.digest_of(content)] = content
        return Descriptor(media_type="test", digest=oci.digest_of(content), size=len(content))

    def base(self, **more: Any) -> Base:
        fields = {"image_id": oci.digest_of(self.config), "layers": tuple(self.blobs), "diff_ids": self.diff_ids}
        return make_base(**(fields | more))

    def local(self, **more: Any) -> Base:
        return self.base(repository="", manifest_digest=None, layers=(), **more)

    def saved(self, form: str, *, after: int = 0) -> bytes:
        """Return what an engine of one generation or another packs, with ``after`` bytes behind what is of use."""
        name = oci.hex_of(oci.digest_of(self.config))
        layers = dict(enumerate(self.layers))
        if form == "legacy":  # Docker before 25
            made = [
                *(entry(f"{number:064}/layer.tar", layer) for number, layer in layers.items()),
                entry(f"{name}.json", self.config),
                entry("manifest.json", bytes(after)),
            ]
        else:
            blobs = [self.config, b"{}", *(PACKERS[form](layer) for layer in self.layers)]
            made = [entry(f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob) for blob in blobs]
            made = [entry("oci-layout", oci.LAYOUT), *sorted(made, key=lambda one: one[0].name)]
        return tar(*made)


@dataclass
class MemoryRegistry:
    """Both ``ports.Registry`` and the blobs of one base; ``down`` makes it fail."""

    made: MadeBase
    asked: list[str] = field(default_factory=list)
    down: bool = False

    def manifest(self, reference: str, *, platform: str) -> Manifest:
        self._answer(f"manifest {reference}")
        base = self.made.base()
        config = Descriptor(media_type=oci.CONFIG, digest=base.image_id, size=len(self.made.config))
        return Manifest(
            repository=base.repository,
            index_digest=None,
            digest=str(base.manifest_digest),
            config=config,
            layers=base.layers,
            diff_ids=base.diff_ids,
            env={},
        )

    def config(self, repository: str, blob: Descriptor) -> bytes:
        return self.open(repository, blob).read()

    def open(self, repository: str, blob: Descriptor) -> IO[bytes]:
        self._answer(f"blob {blob.digest}")
        if blob.digest not in self.made.content:
            raise UnknownImage(f"{repository} has no {blob.digest}")
        return io.BytesIO(self.made.content[blob.digest])

    @contextmanager
    def opened(self, repository: str, blob: Descriptor) -> Iterator[IO[bytes]]:
        with closing(self.open(repository, blob)) as stream:
            yield stream

    def _answer(self, question: str) -> None:
        self.asked.append(question)
        if self.down:
            raise RegistryError("the registry does not answer")


class MemoryEngine(FakeEngine):
    """An engine with bases whose Python answers the two programs that are run in bases."""

    def with_base(self, made: MadeBase, base: Base, *, files: BaseFiles, archive: bytes = b"") -> MemoryEngine:
        image = self.add(base.reference, digests=(base.pinned,), diff_ids=made.diff_ids)
        self.images[base.image_id] = image
        self.files = files
        self.archive = archive
        self.programs[base.python.executable] = self._python
        self.asked: list[str] = []
        self.skeleton = b'{"entries": {"/opt/venv/x": {"folder": true}}, "installed": []}'
        return self

    @contextmanager
    def container(self, image: str, **options: Any) -> Iterator[FakeContainer]:
        self.asked.append("start")
        with super().container(image, **options) as container:
            yield container
        self.asked.append("end")

    @contextmanager
    def piped(self, image: str, argv: Sequence[str], *, env: Mapping[str, str]) -> Iterator[FakePipe]:
        self.asked.append(f"pipe {argv[0]}")
        with super().piped(image, argv, env=env) as pipe:
            yield pipe
        self.asked.append("end pipe")

    @contextmanager
    def saved(self, image: str) -> Iterator[IO[bytes]]:
        self._have(image)
        self.asked.append(f"save {image}")
        self.stream = io.BytesIO(self.archive)
        yield self.stream

    def _python(self, container: FakeContainer, argv: Sequence[str], env: Mapping[str, str]) -> Completed:
        if LISTING in argv:
            self.asked.append("list " + " ".join(argv[argv.index(LISTING) + 1 :]))
            return completed(json.dumps(as_json(self.files)))
        assert SKELETON in argv
        self.asked.append(f"skeleton {argv[-1]}")
        return completed(self.skeleton.decode())


def engine_bases(engine: MemoryEngine, registry: MemoryRegistry, folder: Path) -> EngineBases:
    return EngineBases(
        engine=engine,
        registry=registry,
        blobs=registry,
        have=lambda base, *, platform: base.pinned,
        store=LayerStore(folder / "store"),
        cache=folder / "cache",
        progress=Remembering(),
    )


def unpacked_bases(registry: MemoryRegistry, folder: Path, *, machine: str = PLATFORM) -> UnpackedBases:
    return UnpackedBases(
        registry=registry,
        blobs=registry,
        artifacts=ArtifactStore(folder / "artifacts"),
        cache=folder / "cache",
        progress=Remembering(),
        machine=machine,
    )


def layer(*made: Made) -> bytes:
    return tar(*made)
