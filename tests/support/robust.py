"""Builds that something happens to, and what they leave behind."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from envlock.model.lock import Base, Lock
from tests.engine.conftest import docker, remove_images
from tests.support.blob_registry import BlobRegistry
from tests.support.composing import noise
from tests.support.debs import DebFile, make_deb
from tests.support.forwarder import Forwarder
from tests.support.handmade import Servers, forget_pushed, make_project, registry_base
from tests.support.packages import Package, wheel
from tests.support.workspace import REGISTRY, Answer, Workspace, make_workspace

# What envlock has under construction, by its place in the cache.
_UNFINISHED = ("layers/making/*", "artifacts/.*", "packed/*/tmp*", "**/*.making", "**/*.claim", "**/.*.making")


@dataclass(frozen=True, kw_only=True)
class OwnBase:
    """A base that nobody else builds on: its containers and images are those of one test."""

    name: str
    mark: str
    base: Base

    def containers(self) -> list[str]:
        return docker("ps", "--all", "--quiet", "--filter", f"ancestor={self.name}").split()

    def images(self) -> list[str]:
        """Return all images that come from it, itself aside."""
        found = docker("images", "-aq", "--no-trunc", "--filter", f"label=org.example.mark={self.mark}").split()
        return sorted({*found} - {self.base.image_id})

    def forget_images(self) -> None:
        for image in self.images():
            subprocess.run(["docker", "rmi", "--force", image], check=False, capture_output=True)


@contextmanager
def own_base() -> Iterator[OwnBase]:
    """Give a base of one's own, in the engine and in the local registry."""
    mark = uuid.uuid4().hex
    name = f"{REGISTRY}/envlock-test/robust-{mark[:8]}:base"
    text = f"FROM {REGISTRY}/envlock/base:py3.11\nLABEL org.example.mark={mark}\n"
    command = ["docker", "build", "--quiet", "--tag", name, "-"]
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)
    docker("push", name)
    found = OwnBase(name=name, mark=mark, base=registry_base(name))
    try:
        yield found
        assert not settled(found.containers)
    finally:
        found.forget_images()
        remove_images(name.rpartition(":")[0])
        docker("rmi", "--force", found.base.image_id)
        forget_pushed(name.rpartition(":")[0])


def settled(look: Callable[[], list[str]]) -> list[str]:
    """Return what is there, once the engine had a moment to take it away."""
    for _ in range(100):
        found = look()
        if not found:
            return []
        time.sleep(0.2)
    return found


# --- what is built ----------------------------------------------------------------------------------------------------

LARGE = 4 << 20  # bytes of a wheel that has a layer of its own


@functools.cache
def packages() -> tuple[Package, ...]:
    """Return one large wheel and some small ones."""
    small = (
        wheel(f"small-{name}", files={f"small_{name}/m{number}.py": f"A = {number}\n" for number in range(40)})
        for name in ("a", "b", "c", "d", "e")
    )
    return (wheel("large", files={"large.bin": noise(LARGE, "large"), "large.py": "L = 1\n"}), *small)


@functools.cache
def tool() -> DebFile:
    """Return a system package that takes a moment to install."""
    script = "#!/bin/sh\nsort /usr/share/tiny-tool/words > /var/lib/tiny-tool.sorted\nsleep 0.3\n"
    return make_deb("tiny-tool", files={"usr/share/tiny-tool/words": b"b\na\n"}, scripts={"postinst": script})


def locked(servers: Servers, base: Base, repository: str, *, debs: bool = False, **more: Any) -> Lock:
    """Return a lock of these packages."""
    given = {
        "base": base,
        "wheels": [servers.wheel(package) for package in packages()],
        "debs": [servers.deb(tool())] if debs else [],
    }
    return servers.lock(repository=repository, **{**given, **more})


@dataclass(frozen=True, kw_only=True)
class Site:
    """A project with its lock, in a workspace whose caches, temporary files and output nobody else has."""

    workspace: Workspace
    top: Path

    @property
    def cache(self) -> Path:
        return self.top / "cache"

    @property
    def layers(self) -> Path:
        return self.cache / "layers"

    @property
    def image(self) -> Path:
        return self.top / "out" / "image"

    def build(self, *arguments: str, code: int | None = 0, env: dict[str, str] | None = None) -> Answer:
        return self.workspace.envlock("build", "--no-record", "--json", *arguments, code=code, env=env)

    def layout(self, *arguments: str, code: int | None = 0, env: dict[str, str] | None = None) -> Answer:
        """Compose without an engine, into a folder."""
        return self.build("--engine", "none", "--output", str(self.image), *arguments, code=code, env=env)

    def leftovers(self) -> list[str]:
        """Return what is unfinished on the disk."""
        found = {path for pattern in _UNFINISHED for path in self.cache.glob(pattern)}
        found |= {*(self.top / "tmp").iterdir()}
        found |= {path for path in (self.top / "out").glob("*") if path.name.startswith(".")}
        return sorted(str(path.relative_to(self.top)) for path in found)

    def forget(self, *names: str) -> None:
        """Remove folders of the cache, all of it where none is named."""
        for name in names or ("",):
            shutil.rmtree(self.cache / name, ignore_errors=True)

    def twin(self, top: Path) -> Site:
        """Return a site with a copy of everything."""
        copied(self.top, top)
        return Site(
            workspace=replace(self.workspace, folder=top / "project", env=_env(self.workspace.env, top)), top=top
        )


def copied(source: Path, target: Path) -> None:
    """Copy a folder, links as links: those of an unpacked base lead nowhere here."""
    shutil.copytree(source, target, symlinks=True)


def _env(env: Any, top: Path) -> dict[str, str]:
    return {
        **env,
        "ENVLOCK_CACHE_DIR": str(top / "cache"),
        "ENVLOCK_STATE_DIR": str(top / "state"),
        "TMPDIR": str(top / "tmp"),
    }


def make_site(folder: Path, servers: Servers, lock: Lock) -> Site:
    made = make_workspace(folder / "home", index_url=servers.index.url)
    top = folder / "site"
    (top / "tmp").mkdir(parents=True)
    make_project(top / "project", lock, {"train.py": "print('trains')\n"})
    return Site(workspace=Workspace(folder=top / "project", env=_env(made.env, top)), top=top)


def same(one: Answer, other: Answer) -> bool:
    return all(one.json[name] == other.json[name] for name in ("image_id", "manifest_digest", "fingerprint"))


# --- damage -----------------------------------------------------------------------------------------------------------


def flipped(path: Path, *, at: int = -1) -> None:
    """Change one byte of a file, and nothing that ``stat`` shows of it but its change time."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    place = len(content) // 2 if at < 0 else at
    content[place] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# --- a registry that misbehaves ---------------------------------------------------------------------------------------


def copy_base(registry: BlobRegistry, base: Base, repository: str) -> Base:
    """Give a base of the local registry to another one."""
    host, _, path = base.repository.partition("/")
    assert base.manifest_digest is not None

    def get(kind: str, digest: str) -> requests.Response:
        kinds = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
        headers = {"Accept": ", ".join(kinds)}
        answer = requests.get(f"http://{host}/v2/{path}/{kind}/{digest}", headers=headers, timeout=60)
        answer.raise_for_status()
        return answer

    manifest = get("manifests", base.manifest_digest)
    kind = manifest.headers["Content-Type"]
    registry.manifests[repository, base.manifest_digest] = (kind, manifest.content)
    for digest in (base.image_id, *(layer.digest for layer in base.layers)):
        assert registry.add(repository, get("blobs", digest).content) == digest
    return replace(base, reference=f"{registry.host}/{repository}:base", repository=f"{registry.host}/{repository}")


# --- an engine whose line breaks --------------------------------------------------------------------------------------


class Breaking(Forwarder):
    """Breaks the line to the engine once so many bytes of an image went over it; ``breaks``: how often."""

    breaks = 1
    after = 1 << 20

    def _pass(self, near: socket.socket, far: socket.socket) -> None:  # type: ignore[override]
        super()._pass(_Counting(near, self), far)  # type: ignore[arg-type]


class _Counting:
    """A socket that looks for images that are loaded."""

    def __init__(self, real: socket.socket, forwarder: Breaking) -> None:
        self._real = real
        self._forwarder = forwarder
        self._loaded: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def recv(self, size: int) -> bytes:
        data = self._real.recv(size)
        if b"/images/load" in data:
            self._loaded = 0
        if self._loaded is not None:
            self._loaded += len(data)
            if self._loaded > self._forwarder.after and self._forwarder.breaks:
                self._forwarder.breaks -= 1
                raise ConnectionResetError
        return data


@contextmanager
def breaking() -> Iterator[Breaking]:
    running = Breaking()
    try:
        yield running
    finally:
        running.close()


# --- a disk that is full ----------------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[int], None] | None]:
    """Mount a file system of so many bytes, and give what resizes it; None where this machine allows no mounts."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return

    def resize(wanted: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={wanted}", str(place)], check=True, capture_output=True)

    try:
        yield resize
    finally:
        with contextlib.suppress(OSError):
            subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)
