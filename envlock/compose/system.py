"""The layer of system packages: installed by the engine, offline, once; taken out, made canonical and kept by key.

The packages go into a container and not through a builder: the .debs then are in no layer of their own, nothing of the
base has to be read out again, and what changed is found by looking, the same way on every engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol

from envlock.layers.hashed import Hashed
from envlock.layers.store import LayerStore
from envlock.model.layers import StoredLayer
from envlock.model.lock import Base, Deb
from envlock.ports import Progress

FORMAT = 1  # of the layer, in its key: whatever changes a byte of it (commands, rules, the tar) is a new number

FOLDER = "/tmp/envlock-debs"  # noqa: S108 - in a container of our own
# As templates/dockerfile/system.j2 has it, whose comments say why.
INSTALL = (
    *("apt-get", "install", "--yes", "--quiet", "--no-install-recommends"),
    *("--allow-downgrades", "--allow-change-held-packages"),
    *("--option", "Dir::Etc::sourcelist=/dev/null", "--option", "Dir::Etc::sourceparts=/dev/null"),
    *("--option", "Dir::State::lists=/tmp/apt-lists"),
    *("--option", "Dir::Cache::pkgcache=", "--option", "Dir::Cache::srcpkgcache="),
    *("--option", "APT::Sandbox::User=root", "--option", "Dpkg::Use-Pty=0"),
    *("--option", "DPkg::Options::=--force-confold", "--option", "DPkg::Options::=--force-unsafe-io"),
)
CHECK = ("dpkg", "--audit")
FOLDERS = ("/usr/share/man/man1",)


class Installer(Protocol):
    """The part of an engine that installs system packages."""

    def installed(
        self,
        image: str,
        files: Mapping[str, Path],
        *,
        python: str,
        argv: Sequence[str],
        check: Sequence[str],
        folders: Sequence[str],
        env: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> AbstractContextManager[IO[bytes]]:
        """Run ``argv`` as root in a new container of the image, and give a tar of what that changed, while it is read.

        ``files`` (path inside → file here) are there before, ``folders`` are made; ``check`` must print nothing
        afterwards. No network; services do not start. The tar is sorted by path, with whiteouts for what is gone (OCI
        image spec, layers). Raises ``BuildFailed`` with the program's last lines, also while the tar is read.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemPackages:
    """What a system layer is made of."""

    base: Base
    debs: tuple[Deb, ...]

    @property
    def key(self) -> str:
        """Return the layer's content key (hex)."""
        parts = [FORMAT, self.base.image_id, sorted(deb.sha256 for deb in self.debs)]
        return hashlib.sha256(json.dumps(["system", *parts]).encode()).hexdigest()

    @property
    def title(self) -> str:
        """Return what people call it."""
        asked = sorted(deb.name for deb in self.debs if deb.requested)
        more = len(self.debs) - len(asked)
        return f"system packages: {', '.join(asked)}" + (f" and {more} more" if more else "")


def system_layer(
    packages: SystemPackages,
    store: LayerStore,
    *,
    image: Callable[[], str],
    installer: Installer,
    files: Callable[[], Mapping[str, Path]],
    progress: Progress,
) -> StoredLayer:
    """Return the layer of system packages, made now or found.

    Whoever made it may have asked for others of the same packages, and the title is in the image's history.
    ``image`` gives what the engine calls the base, ``files`` each .deb by sha256 (hex); both are only asked where the
    layer has to be made. Raises ``AptError`` for a .deb that is refused, ``BuildFailed``, ``EngineError``.
    """
    found = store.find_or_bring(packages.key)
    if found is not None:
        return replace(found, title=packages.title)
    here = files()
    with store.layers.making(packages.key) as making:
        if making.found:
            return replace(making.found, title=packages.title)
        tar = Hashed(making.file)
        make(packages, tar.write, image=image(), installer=installer, files=here, progress=progress)
        return making.keep(diff_id=tar.diff_id, size=tar.size, title=packages.title)


def make(
    packages: SystemPackages,
    write: Callable[[bytes], object],
    *,
    image: str,
    installer: Installer,
    files: Mapping[str, Path],
    progress: Progress,
) -> None:
    """Write the layer's tar."""
    # Most builds find the layer, and never come here.
    from envlock.layers.deb_check import check_debs  # noqa: PLC0415
    from envlock.layers.system_layer import Rules, normalise  # noqa: PLC0415

    with progress.task(f"Checking {len(packages.debs)} system packages"):
        epoch = check_debs(packages.debs, files)
    inside = {f"{FOLDER}/{deb.sha256[:12]}_{deb.filename}": files[deb.sha256] for deb in packages.debs}
    by_name = sorted(packages.debs, key=lambda deb: (deb.filename, deb.sha256))
    with (
        progress.task(f"Installing {len(packages.debs)} system packages") as task,
        installer.installed(
            image,
            inside,
            python=packages.base.python.executable,
            argv=(*INSTALL, *(f"{FOLDER}/{deb.sha256[:12]}_{deb.filename}" for deb in by_name)),
            check=CHECK,
            folders=FOLDERS,
            # Programs that put the time of day into what they write take this one, if they know of it
            # (reproducible-builds.org, SOURCE_DATE_EPOCH): useradd, for one.
            env={"DEBIAN_FRONTEND": "noninteractive", "SOURCE_DATE_EPOCH": str(epoch)},
            on_line=task.note,
        ) as tar,
    ):
        normalise(tar, write, Rules(epoch=epoch, seed=packages.key[:32]))
