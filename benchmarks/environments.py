"""An environment as envlock's user has it: a folder with a lock in it, and ``envlock build``."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.bench import BASE, PYTHON, Bench
from benchmarks.engines import LABEL
from benchmarks.measure import Done, command
from benchmarks.variants import SOURCE, variant
from envlock.adapters.artifacts import ArtifactStore
from envlock.formats.lock_json import dump_lock, load_lock
from envlock.layers.store import LayerStore
from envlock.model.lock import Lock, PythonSource, Wheel

LONGEST = 3600  # seconds that anything here may take
_ENVLOCK = (sys.executable, "-m", "envlock")
_LINKS = "links"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What ``envlock build`` said."""

    done: Done
    said: Mapping[str, Any]

    @property
    def image(self) -> str:
        """Return the image's ID."""
        return str(self.said["image_id"])

    @property
    def seconds(self) -> Mapping[str, float]:
        """Return what each of its steps took."""
        return dict(self.said["seconds"])


class Environment:
    """A list of packages, locked; with caches that are its own."""

    def __init__(self, bench: Bench, name: str, packages: Sequence[str]) -> None:
        self.bench = bench
        self.name = name
        self.folder = bench.folder / name
        self.folder.mkdir()
        (self.folder / _LINKS).symlink_to(bench.links)
        self.cache = self.folder / "cache"
        self.env = bench.env | {"ENVLOCK_CACHE_DIR": str(self.cache)}
        self.lock = self._locked(packages)
        self.image = ""  # the lock's, once it is built

    def _locked(self, packages: Sequence[str]) -> Lock:
        """Write a spec, and lock. It still holds for locks with a changed pin: it asks for no version of that."""
        spec = {
            "name": LABEL,
            "base": BASE,
            "python": PYTHON,
            "pip": {"packages": list(packages), "find_links": {SOURCE: _LINKS}},
            "image": {"repository": f"{LABEL}-{self.bench.mark}-{self.name}", "labels": {LABEL: self.bench.mark}},
        }
        (self.folder / "envlock.yaml").write_text(json.dumps(spec))  # which is YAML
        command([*_ENVLOCK, "lock"], cwd=self.folder, env=self.env, timeout=LONGEST)
        return load_lock((self.folder / "envlock.lock").read_bytes())

    # --- building -----------------------------------------------------------------------------------------------------

    def put(self, lock: Lock) -> None:
        """Make a lock the one that is built."""
        (self.folder / "envlock.lock").write_text(dump_lock(lock))

    def build(self, *options: str, **env: str) -> Built:
        """Build, without recording; raises ``CommandFailed``."""
        argv = [*_ENVLOCK, "build", "--no-record", "--json", *options]
        done = command(argv, cwd=self.folder, env=self.env | env, timeout=LONGEST)
        return Built(done=done, said=json.loads(done.stdout))

    def build_own(self) -> Done:
        """Build the image of the lock as it was locked."""
        self.put(self.lock)
        built = self.build()
        self.image = built.image
        return built.done

    # --- changing a pin -----------------------------------------------------------------------------------------------

    def by_size(self) -> list[Wheel]:
        """Return the packages, smallest wheel first."""
        return sorted(self.lock.wheels, key=lambda wheel: (wheel.size, wheel.name))

    def changed(self, wheel: Wheel) -> Lock:
        """Return the lock with a new version of one package, which no cache has seen."""
        path = ArtifactStore(self.cache / "artifacts").has(wheel.sha256)
        if path is None:
            raise FileNotFoundError(wheel.filename)
        fresh = variant(wheel, path, self.bench.links)
        wheels = tuple(fresh if one.name == wheel.name else one for one in self.lock.wheels)
        links = PythonSource(name=SOURCE, kind="find-links", location=_LINKS)  # named in locks that need it alone
        sources = tuple(one for one in self.lock.python_sources if one.name != SOURCE)
        return replace(self.lock, wheels=wheels, python_sources=(*sources, links))

    # --- forgetting ---------------------------------------------------------------------------------------------------

    def forget_image(self) -> None:
        """Remove the image from the engine, with the layers that only it has."""
        if self.image:
            self.bench.engine.remove([self.image])

    def forget_layers(self) -> None:
        """Remove image and layers; the wheels stay."""
        self.forget_image()
        for name in ("layers", "packed", "images"):
            shutil.rmtree(self.cache / name, ignore_errors=True)

    def forget_all(self) -> None:
        """Remove image, layers and wheels: as on a machine that never built it, but for the base."""
        self.forget_image()
        shutil.rmtree(self.cache, ignore_errors=True)

    # --- how large it is ----------------------------------------------------------------------------------------------

    def unpacked(self) -> int:
        """Return how much the image has above its base."""
        return self.bench.engine.size(self.image) - self.bench.engine.size(self.lock.base.image_id)

    def layer_sizes(self) -> dict[str, int]:
        """Return the size of every layer that was made here, by diff_id."""
        return {layer.diff_id: layer.size for layer, _ in LayerStore(self.cache / "layers").layers.kept()}


def requirements(lock: Lock) -> str:
    """Return a lock's pins as pip reads them."""
    return "".join(f"{wheel.name}=={wheel.version}\n" for wheel in lock.wheels)


__all__ = ["LONGEST", "Built", "Environment", "Path", "requirements"]
