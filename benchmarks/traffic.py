"""What goes over the lines when one pin changed: to the engine, and to the registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.request import Request, urlopen

from benchmarks.bench import spread
from benchmarks.counting import Counter, counted_address, counted_engine
from benchmarks.engines import LABEL
from benchmarks.environments import LONGEST, Built, Environment
from benchmarks.measure import CommandFailed, say
from benchmarks.registry import registry
from benchmarks.rivals import Rival
from benchmarks.tables import megabytes, one_line, section, table
from envlock.formats.oci import MANIFEST
from envlock.model.lock import Lock, Wheel

_PINS = 3
_HEAD = (
    "one pin changed",
    "wheel MB",
    "its layer MB",
    "to the engine MB",
    "its layer, compressed MB",
    "pushed MB",
    "pushed beside the layer KiB",
)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one change cost, in bytes."""

    wheel: Wheel
    layer: int  # the changed layer, unpacked
    to_engine: int
    blob: int  # the changed layer as the registry has it
    to_registry: int
    peak: int  # of the process's memory

    def row(self) -> list[str]:
        sizes = (self.wheel.size, self.layer, self.to_engine, self.blob, self.to_registry)
        return [
            f"envlock, {self.wheel.name}",
            *map(megabytes, sizes),
            f"{(self.to_registry - self.blob) / 1024:.0f}",
        ]


def main(environment: Environment, rivals: Sequence[Rival]) -> tuple[str, int]:
    """Return the table, and envlock's peak memory."""
    folder = environment.bench.folder
    with registry(folder) as (host, port), counted_address(host, port) as (pushed, through):
        path = f"{LABEL}/{environment.bench.mark}"
        with counted_engine(environment.bench.engine.host, folder) as (loaded, address):
            job = _Envlock(environment, loaded, pushed, repository=f"127.0.0.1:{through}/{path}", docker_host=address)
            sent = job.changes(manifests=f"http://{host}:{port}/v2/{path}/manifests")
        rows = [one.row() for one in sent]
        notes = []
        for rival in (rival for rival in rivals if rival.tool == "pip"):
            try:
                count = _pushed_by(rival, environment, f"127.0.0.1:{through}/{path}-pip", pushed)
                rows.append([f"`docker push`: {rival.name}", "", "", "", "", megabytes(count), ""])
            except CommandFailed as error:
                notes.append(f"`docker push`: {one_line(str(error))}\n")
    return section("Bytes for one changed pin", table(_HEAD, rows), *notes), max(one.peak for one in sent)


class _Envlock:
    def __init__(
        self, environment: Environment, loaded: Counter, pushed: Counter, *, repository: str, docker_host: str
    ) -> None:
        self._environment = environment
        self._loaded = loaded
        self._pushed = pushed
        self._repository = repository
        self._docker_host = docker_host

    def changes(self, *, manifests: str) -> list[Sent]:
        environment = self._environment
        first = self._build(environment.lock)
        before = _blobs(f"{manifests}/{first.said['manifest_digest']}")
        layers = set(environment.bench.engine.layers(first.image))
        ordered = environment.by_size()
        found = []
        for place in spread(len(ordered), _PINS):
            wheel = ordered[place]
            lock = environment.changed(wheel)
            self._loaded.taken()
            self._pushed.taken()
            built = self._build(lock)
            to_engine, to_registry = self._loaded.taken(), self._pushed.taken()
            after = _blobs(f"{manifests}/{built.said['manifest_digest']}")
            sizes = environment.layer_sizes()
            new = [sizes.get(one, 0) for one in environment.bench.engine.layers(built.image) if one not in layers]
            sent = Sent(
                wheel=wheel,
                layer=max(new),
                to_engine=to_engine,
                blob=max(size for digest, size in after.items() if digest not in before),
                to_registry=to_registry,
                peak=built.done.peak,
            )
            say(f"bytes: {wheel.name}: {to_engine} to the engine, {to_registry} to the registry")
            found.append(sent)
            environment.bench.engine.remove([built.image])
        return found

    def _build(self, lock: Lock) -> Built:
        self._environment.put(lock)
        return self._environment.build("--push", "--tag", f"{self._repository}:latest", DOCKER_HOST=self._docker_host)


def _blobs(url: str) -> dict[str, int]:
    """Return the size of each layer of a manifest, by digest."""
    with urlopen(Request(url, headers={"Accept": MANIFEST}), timeout=60) as answer:
        manifest = json.load(answer)
    return {layer["digest"]: layer["size"] for layer in manifest["layers"]}


def _pushed_by(rival: Rival, environment: Environment, name: str, pushed: Counter) -> int:
    """Return how much is pushed of a changed image where the one before is there already."""
    if len(set(rival.images)) <= 1:
        rival.build()
        rival.require(environment.changed(environment.by_size()[0]))
        rival.build()
    count = 0
    for image in (rival.images[0], rival.images[-1]):
        pushed.taken()
        rival.engine.run("tag", image, f"{name}:latest")
        done = rival.engine.run("push", f"{name}:latest", timeout=LONGEST)
        count = pushed.taken()
        say(f"bytes: docker push: {count} in {done.seconds:.1f} s")
    return count
