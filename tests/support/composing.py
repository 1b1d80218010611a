"""Images made of layers in memory: what the layer store gives, without one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from envlock.compose import SmallLayer, compose
from envlock.formats import oci
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.lock import Descriptor, Lock
from envlock.model.plan import Plan, Project
from envlock.plan import make_plan
from tests.support.locks import make_base, make_lock


def noise(size: int, seed: str) -> bytes:
    """Return bytes that nobody can compress, the same each time."""
    blocks = (hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def tar_of(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Layers:
    """A store of layers in memory; ``opened`` counts what was asked for."""

    content: dict[str, bytes] = field(default_factory=dict)  # key → tar
    opened: list[str] = field(default_factory=list)

    def add(self, title: str, tar: bytes) -> StoredLayer:
        key = hashlib.sha256(title.encode() + tar).hexdigest()
        self.content[key] = tar
        return StoredLayer(key=key, diff_id=oci.digest_of(tar), size=len(tar), title=title)

    def small(self, layer: SmallLayer) -> StoredLayer:
        tar = b"".join(layer.blocks())
        self.content[layer.key] = tar
        return StoredLayer(key=layer.key, diff_id=oci.digest_of(tar), size=len(tar), title=layer.title)

    def noise(self, name: str, size: int = 300_000) -> StoredLayer:
        return self.add(name, tar_of({f"data/{name.partition(' ')[0]}": noise(size, name)}))

    def open(self, layer: StoredLayer) -> IO[bytes]:
        self.opened.append(layer.title)
        return io.BytesIO(self.content[layer.key])


def config_of(diff_ids: Sequence[str], **config: Any) -> bytes:
    """Return a base's configuration, in the order in which a Go program writes it."""
    return json.dumps(
        {
            "architecture": "amd64",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"], **config},
            "container": "0123",
            "created": "2024-01-01T00:00:00Z",
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "ADD rootfs"} for _ in diff_ids],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        }
    ).encode()


@dataclass(frozen=True)
class BaseInRegistry:
    """A base image of one layer, as a registry has it."""

    config: bytes
    layer: bytes  # compressed
    descriptor: Descriptor
    diff_id: str


def base_in_registry(files: Mapping[str, bytes] | None = None) -> BaseInRegistry:
    import gzip

    tar = tar_of(files or {"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "etc/group": b"root:x:0:\n"})
    layer = gzip.compress(tar, mtime=0)
    descriptor = Descriptor(
        media_type="application/vnd.docker.image.rootfs.diff.tar.gzip", digest=oci.digest_of(layer), size=len(layer)
    )
    diff_id = oci.digest_of(tar)
    return BaseInRegistry(config=config_of([diff_id]), layer=layer, descriptor=descriptor, diff_id=diff_id)


def lock_of(base: BaseInRegistry, **overrides: Any) -> Lock:
    return make_lock(
        base=make_base(
            image_id=oci.digest_of(base.config),
            diff_ids=(base.diff_id,),
            layers=(base.descriptor,),
            repository=overrides.pop("repository", "example.org/base"),
        ),
        **overrides,
    )


def plan_of(lock: Lock, project: Project | None = None) -> Plan:
    return make_plan(lock, project or Project(), fingerprint=fingerprint(lock), lock_text=dump_lock(lock))


def image_of(base: BaseInRegistry, layers: Sequence[StoredLayer], project: Project | None = None) -> ComposedImage:
    return compose(plan_of(lock_of(base), project), layers, base_config=base.config)
