"""A small world for whole builds through the command line, and images read back out of OCI layouts.

Packages are on loopback, a lock of them that nobody resolved is on a base of the local registry, a project is in git.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import requests

from envlock.adapters.engine import DockerEngine
from envlock.adapters.registry import HttpRegistry
from envlock.formats.lock_json import dump_lock
from envlock.lock.interpreter import probe
from envlock.model.lock import AptSource, Base, Deb, Lock, Wheel
from envlock.model.spec import ImageOptions, ProjectFiles, Seeds
from tests.engine.conftest import pip_wheel
from tests.support.debs import Archive, ArchiveServer, DebFile, serve
from tests.support.index_server import Index, index_server
from tests.support.loading import BASE, REGISTRY
from tests.support.locks import make_base, make_lock
from tests.support.packages import Package
from tests.support.progress import Remembering

REFERENCE = f"{BASE}:py3.11"
PLATFORM = "linux/amd64"
_COMMIT = {  # one commit ID on all machines
    **{f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "a@example.org" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


@cache
def registry_base(reference: str = REFERENCE) -> Base:
    """Return a base of the registry as a lock has it."""
    found = HttpRegistry(os.environ).manifest(reference, platform=PLATFORM)
    base: dict[str, Any] = {
        "reference": reference,
        "repository": found.repository,
        "manifest_digest": found.digest,
        "image_id": found.config.digest,
        "layers": found.layers,
        "diff_ids": found.diff_ids,
        "env": found.env,
    }
    engine = DockerEngine(os.environ)
    pinned = make_base(**base).pinned
    engine.pull(pinned, platform=PLATFORM, progress=Remembering())
    with engine.container(pinned) as container:
        base["python"] = probe(container).python
    engine.close()
    return make_base(**base)


@dataclass(frozen=True)
class Servers:
    """Where packages come from."""

    index: Index
    archive: ArchiveServer

    def wheel(self, made: Package, **details: Any) -> Wheel:
        """Offer a wheel, and return it as a lock has it."""
        if made not in self.index.packages:
            self.index.add(made)
        return _locked(made, **details)

    def deb(self, made: DebFile) -> Deb:
        """Offer a .deb, and return it as a lock has it."""
        self.archive.archives["debs"].debs.append(made)
        return Deb(
            name=made.name,
            version=made.version,
            architecture=made.architecture,
            source="debs",
            path=made.path,
            sha256=made.sha256,
            size=len(made.content),
            requested=True,
        )

    def lock(self, *, repository: str, wheels: Sequence[Wheel] = (), debs: Sequence[Deb] = (), **more: Any) -> Lock:
        """Return a lock of these packages."""
        source = AptSource(name="debs", suite="stable", components=("main",), uri=self.archive.uri("debs"))
        given: dict[str, Any] = {
            "name": "handmade",
            "base": registry_base(),
            "wheels": tuple(sorted(wheels, key=lambda wheel: wheel.name)),
            "debs": tuple(sorted(debs, key=lambda deb: deb.name)),
            "apt_sources": (source,),
            "installer": _locked(pip_wheel()),
            "env": {},
            "seeds": Seeds(seed=42),
            "image": ImageOptions(repository=repository),
            "project": ProjectFiles(),
        }
        return make_lock(**{**given, **more})


@contextmanager
def servers() -> Iterator[Servers]:
    """Serve nothing yet but pip."""
    with ExitStack() as stack:
        yield Servers(
            index=stack.enter_context(index_server([pip_wheel()])), archive=stack.enter_context(serve(debs=Archive()))
        )


def _locked(made: Package, **details: Any) -> Wheel:
    return Wheel(
        **{
            "name": made.name,
            "version": made.version,
            "source": "default",
            "filename": made.filename,
            "sha256": made.sha256,
            "size": len(made.content),
            "requested": True,
            **details,
        }
    )


# --- projects ---------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str, seconds: int = 1_700_000_000) -> str:
    """Run git as nobody in particular, at a time of one's choice."""
    env = {"PATH": os.environ["PATH"], **_COMMIT}
    env |= {f"GIT_{who}_DATE": f"{seconds} +0000" for who in ("AUTHOR", "COMMITTER")}
    return subprocess.run(["git", *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


def make_project(folder: Path, lock: Lock, files: Mapping[str, str], *, executable: Sequence[str] = ()) -> None:
    """Write a project with its lock, and commit everything; the same files are the same commit everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**files, "envlock.lock": dump_lock(lock)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755 if name in executable else 0o644)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all of it")


# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Written:
    """An image as a layout has it."""

    digest: str  # the manifest's
    image_id: str
    diff_ids: tuple[str, ...]
    config: Mapping[str, Any]
    layers: tuple[str, ...]  # digests

    def differences(self, other: Written) -> list[str]:
        """Name the layers and the settings that another image has otherwise."""
        titles = [entry["created_by"] for entry in self.config["history"] if not entry.get("empty_layer")]
        layers = zip(titles, self.diff_ids, other.diff_ids, strict=False)
        found = [title for title, one, two in layers if one != two]
        found += [name for name in self.config if name != "rootfs" and self.config[name] != other.config.get(name)]
        return found or ([] if self == other else ["something else"])


def read_layout(path: Path) -> Written:
    """Read an OCI layout: a folder, or one tar file."""
    if path.is_dir():
        return _read(lambda name: (path / name).read_bytes())
    with tarfile.open(path) as archive:
        return _read(lambda name: archive.extractfile(name).read())


def _read(read) -> Written:
    def blob(digest: str) -> Any:
        return json.loads(read(f"blobs/{digest.replace(':', '/')}"))

    digest = json.loads(read("index.json"))["manifests"][0]["digest"]
    manifest = blob(digest)
    config = blob(manifest["config"]["digest"])
    return Written(
        digest=digest,
        image_id=manifest["config"]["digest"],
        diff_ids=tuple(config["rootfs"]["diff_ids"]),
        config=config,
        layers=tuple(layer["digest"] for layer in manifest["layers"]),
    )


def forget_pushed(repository: str) -> None:
    """Remove what was pushed to a repository of the local registry."""
    host, _, path = repository.partition("/")
    assert host == REGISTRY, repository
    tags = requests.get(f"http://{host}/v2/{path}/tags/list", timeout=10).json().get("tags") or []
    registry = HttpRegistry(os.environ)
    for digest in {registry.manifest(f"{repository}:{tag}", platform=PLATFORM).digest for tag in tags}:
        requests.delete(f"http://{host}/v2/{path}/manifests/{digest}", timeout=10)
