"""Engines of two generations and two kinds of image store, with a plan on a base of the local registry."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envlock.adapters.engine.engine import DockerEngine
from envlock.adapters.packed_layers import PackedLayers
from envlock.adapters.registry import HttpRegistry
from envlock.adapters.registry.push import Blobs
from envlock.compose import compose
from envlock.formats.base_files import BaseFiles, read_layers
from envlock.formats.oci_archive import Loadable, loadable
from envlock.model.layers import StoredLayer
from envlock.model.plan import Plan, Project
from envlock.model.spec import ImageOptions, ProjectFiles, Seeds
from envlock.ports import Loaded, Supplies
from tests.support.composing import Layers, plan_of
from tests.support.locks import make_base, make_lock
from tests.support.progress import Remembering

ROOT = Path(__file__).parents[2]
REGISTRY = os.environ.get("ENVLOCK_DEV_REGISTRY", "127.0.0.1:5000")
BASE = f"{REGISTRY}/envlock/base"
PROJECT = "envlock-test-load"


def other(name: str) -> str:
    """Start the second or third engine where it does not run, and return its address; fails where it cannot be."""
    subprocess.run([str(ROOT / ".ci/engine"), name, "up"], check=True, capture_output=True)
    addresses = subprocess.run([str(ROOT / ".ci/engine"), "env"], check=True, capture_output=True, text=True).stdout
    for line in addresses.split():
        if line.startswith(f"ENVLOCK_DEV_{name.upper()}_HOST="):
            return line.partition("=")[2]
    raise AssertionError(addresses)


@dataclass
class World:
    host: str | None
    engine: DockerEngine
    plan: Plan
    config: bytes
    files: BaseFiles
    blobs: Blobs

    @property
    def per_blob(self) -> bool:
        return "containerd" in self.engine.info().storage

    def image(self, *layers: StoredLayer, project: Project | None = None) -> Loadable:
        plan = replace(
            self.plan, config=replace(self.plan.config, labels={**self.plan.config.labels, "test": str(project)})
        )
        return loadable(compose(plan, layers, base_config=self.config), platform="linux/amd64")

    def load(self, image: Loadable, store: Layers, **supplies: Any) -> Loaded:
        pull = lambda: self.engine.pull(self.plan.base.pinned, platform="linux/amd64", progress=Remembering())  # noqa: E731
        given = {"open_layer": store.open, "pull_base": pull, **supplies}
        return self.engine.load(image, Supplies(**given), progress=Remembering())

    def docker(self, *arguments: str) -> str:
        host = ["--host", self.host] if self.host else []
        return subprocess.run(["docker", *host, *arguments], check=True, capture_output=True, text=True).stdout


def composed_world(name: str, folder: Path) -> Iterator[World]:
    """Give one engine (first, second, third), and remove what was loaded there afterwards."""
    host = None if name == "first" else other(name)
    environ = dict(os.environ) | ({"DOCKER_HOST": host} if host else {})
    engine = DockerEngine(environ)
    found = HttpRegistry(environ).manifest(f"{BASE}:py3.11", platform="linux/amd64")
    blobs = Blobs(environ, packed=PackedLayers(folder))
    config = blobs.config(BASE, found.config)
    base = make_base(
        reference=f"{BASE}:py3.11",
        repository=BASE,
        manifest_digest=found.digest,
        image_id=found.config.digest,
        layers=found.layers,
        diff_ids=found.diff_ids,
        env=found.env,
    )
    lock = make_lock(
        name=f"{PROJECT}-{name}",
        base=base,
        debs=(),
        wheels=(),
        seeds=Seeds(),
        project=ProjectFiles(),
        image=ImageOptions(repository=PROJECT),
    )
    files = read_layers(blobs.open(BASE, layer) for layer in found.layers)
    made = World(host, engine, plan_of(lock), config, files, blobs)
    yield made
    names = made.docker("images", "-q", "--no-trunc", "--filter", f"label=org.opencontainers.image.title={lock.name}")
    for image in set(names.split()):
        made.docker("rmi", "--force", image)
    engine.close()
