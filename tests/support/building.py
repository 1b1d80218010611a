"""Plans that really build: tiny wheels, this machine's own pip as a wheel, and locks of them on an engine's base."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.bases.in_engine import EngineBases
from envlock.adapters.engine import DockerEngine
from envlock.adapters.guard import FileGuard
from envlock.adapters.image_readings import ImageReadings
from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.publishing import DiskLayouts, PushMemory, RegistryPublisher
from envlock.adapters.registry import HttpRegistry
from envlock.adapters.registry.push import Blobs
from envlock.adapters.unfinished import FileUnfinished
from envlock.build import Workshop, have_base
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.layers.store import LayerStore
from envlock.model.lock import Deb, Lock, Wheel
from envlock.model.plan import Plan, Project
from envlock.model.spec import ImageOptions, ProjectFiles, Seeds
from envlock.plan import make_plan
from envlock.ports import Engine, Progress, Wanted
from tests.support import packages
from tests.support.debs import DebFile
from tests.support.locks import make_base, make_lock


@dataclass(frozen=True, kw_only=True)
class Goods:
    """Files by sha256, as an index or an archive would hand them out."""

    content: dict[str, bytes] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def add(self, title: str, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.content[sha256] = content
        self.titles[sha256] = title
        return sha256

    def wheel(self, name: str, version: str = "1.0", **details: Any) -> Wheel:
        """Make a wheel (``packages.wheel`` has the details)."""
        made = packages.wheel(name, version, **details)
        return self._wheel(made.name, made.version, made.filename, made.content)

    def pip(self) -> Wheel:
        version = distribution("pip").version
        return self._wheel("pip", version, f"pip-{version}-py3-none-any.whl", pip_bytes())

    def deb(self, deb: DebFile) -> Deb:
        sha256 = self.add(deb.path.rpartition("/")[2], deb.content)
        return Deb(
            name=deb.name,
            version=deb.version,
            architecture=deb.architecture,
            source="test",
            path=deb.path,
            sha256=sha256,
            size=len(deb.content),
            requested=True,
        )

    def wanted(self) -> list[Wanted]:
        return [
            Wanted(
                title=self.titles[sha256],
                sha256=sha256,
                size=len(content),
                open=lambda content=content: _opened(content),
            )
            for sha256, content in self.content.items()
        ]

    def _wheel(self, name: str, version: str, filename: str, content: bytes) -> Wheel:
        sha256 = self.add(filename, content)
        return Wheel(
            name=name,
            version=version,
            source="default",
            filename=filename,
            sha256=sha256,
            size=len(content),
            requested=True,
        )


@contextmanager
def _opened(content: bytes) -> Iterator[Iterable[bytes]]:
    yield [content]


@cache
def pip_bytes() -> bytes:
    """Return the installed pip as the wheel that it came from, or near enough."""
    pip = distribution("pip")
    made_here = {"RECORD", "INSTALLER", "REQUESTED"}
    inside = {
        str(file): Path(str(file.locate())).read_bytes()
        for file in pip.files or ()
        if ".." not in file.parts and "__pycache__" not in file.parts and file.name not in made_here
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(inside.items()):
            archive.writestr(zipfile.ZipInfo(path, packages.EPOCH), content)
        record = f"pip-{pip.version}.dist-info/RECORD"
        archive.writestr(zipfile.ZipInfo(record, packages.EPOCH), "".join(f"{path},,\n" for path in (*inside, record)))
    return buffer.getvalue()


def lock_on(engine: Engine, reference: str, goods: Goods, **overrides: Any) -> Lock:
    """Return a lock on a base that the engine has (and no registry is asked for)."""
    found = engine.find(reference)
    assert found is not None, f"the engine has no {reference}: run make engine"
    with engine.container(found.id) as container:
        done = container.run(
            ["python3", "-c", "import platform, sys; print(platform.python_version(), sys.executable)"]
        )
    version, executable = done.stdout.decode().split()
    plain = make_base()
    base = replace(
        plain,
        reference=reference,
        repository="",
        manifest_digest=None,
        image_id=found.id,
        diff_ids=found.diff_ids,
        env=found.env,
        python=replace(plain.python, version=version, executable=executable),
    )
    values: dict[str, Any] = {
        "name": "tiny",
        "base": base,
        "debs": (),
        "wheels": (),
        "env": {},
        "seeds": Seeds(),
        "image": ImageOptions(repository="envlock-build-test/tiny"),
        "project": ProjectFiles(),
        "installer": goods.pip(),
    }
    return make_lock(**{**values, **overrides})


def plan_of(lock: Lock, project: Project | None = None) -> Plan:
    return make_plan(lock, project or Project(), fingerprint=fingerprint(lock), lock_text=dump_lock(lock))


def workshop(engine: DockerEngine, folder: Path, progress: Progress) -> Workshop:
    """Return a workshop of real parts, whose caches are in the folder."""
    packed, store = PackedLayers(folder / "packed"), LayerStore(folder / "layers")
    blobs, registry = Blobs(os.environ, packed=packed), HttpRegistry(os.environ)
    return Workshop(
        engine=engine,
        bases=EngineBases(
            engine=engine,
            registry=registry,
            blobs=blobs,
            have=partial(have_base, engine=engine, progress=progress),
            store=store,
            cache=folder / "bases",
            progress=progress,
        ),
        store=store,
        artifacts=ArtifactStore(folder / "artifacts"),
        publisher=RegistryPublisher(blobs, packed, PushMemory(folder / "pushed")),
        layouts=DiskLayouts(packed),
        readings=ImageReadings(folder / "readings"),
        unfinished=FileUnfinished(folder / "unfinished"),
        guard=FileGuard(folder / "locks", waiting=progress.message),
        progress=progress,
    )
