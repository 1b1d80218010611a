"""What is wanted: ``envlock.yaml`` after validation and with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ResolverName = Literal["pip-tools", "uv"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AptRepository:
    """An extra apt repository (sources.list(5)), known by its name in the lock."""

    name: str
    uri: str
    suite: str
    components: tuple[str, ...]
    key: str  # path of the key file (armoured or binary OpenPGP), relative to the spec


@dataclass(frozen=True, kw_only=True, slots=True)
class AptRequest:
    """One package asked for: its name, and the exact version where one was given (``git=1:2.30.2-1``)."""

    name: str
    version: str | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}={self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Apt:
    """System packages."""

    packages: tuple[AptRequest, ...] = ()
    repositories: tuple[AptRepository, ...] = ()
    snapshot: str | None = None  # URL template of the archive's snapshots, with ``{timestamp}`` (20250131T000000Z)


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """A package index by name, and the only packages that may come from it (and then only from it).

    An index that binds no package is asked for every package that is not bound elsewhere, after the default index.
    """

    name: str
    url: str  # simple repository API (PEP 503/691), without credentials
    packages: tuple[str, ...] = ()  # normalized names (PEP 503)


@dataclass(frozen=True, kw_only=True, slots=True)
class FindLinks:
    """A folder of wheels by name; packages that have a file there may come from there as well as from an index."""

    name: str
    path: str  # relative to the spec


@dataclass(frozen=True, kw_only=True, slots=True)
class Pip:
    """Python packages."""

    packages: tuple[str, ...] = ()  # inline requirements (PEP 508)
    requirements: tuple[str, ...] = ()  # files, relative to the spec
    constraints: tuple[str, ...] = ()  # files, relative to the spec
    indexes: tuple[Index, ...] = ()
    find_links: tuple[FindLinks, ...] = ()
    sdist: tuple[str, ...] = ()  # normalized names that may be built from source; all others come as wheels
    resolver: ResolverName = "pip-tools"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seeds:
    """Seeds that become the image's environment."""

    seed: int | None = None
    data_seed: int | None = None
    cudnn_deterministic: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """How the image is called and how it starts."""

    repository: str
    tags: tuple[str, ...] = ()
    user: str = "envlock"
    uid: int = 1000
    workdir: str = "/workspace"
    entrypoint: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectFiles:
    """Which of the project's files go into the image (gitignore patterns); none without ``include``."""

    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracking:
    """Where runs are recorded."""

    tracking_uri: str | None = None  # without credentials; MLflow's own setting where absent
    experiment: str | None = None
    params: tuple[str, ...] = ("torch", "transformers", "peft")  # packages that become ``<name>_version``


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """A validated, completed ``envlock.yaml``."""

    name: str
    base: str  # tag, tag@digest, or a local image
    python: str  # major.minor, or major.minor.micro
    platform: str = "linux/amd64"
    cuda: str | None = None
    as_of: str | None = None  # ISO 8601 date or date-time in UTC
    apt: Apt = field(default_factory=Apt)
    pip: Pip = field(default_factory=Pip)
    env: Mapping[str, str] = field(default_factory=dict)
    seeds: Seeds = field(default_factory=Seeds)
    image: ImageOptions
    project: ProjectFiles = field(default_factory=ProjectFiles)
    mlflow: Tracking = field(default_factory=Tracking)


@dataclass(frozen=True, kw_only=True, slots=True)
class Requested:
    """A spec together with what its requirements files say: everything that a lock answers to."""

    spec: Spec
    requirements: tuple[str, ...]  # canonical PEP 508 lines, sorted, from inline packages and files
    constraints: tuple[str, ...]  # likewise
    keys: Mapping[str, bytes] = field(default_factory=dict)  # apt repository name → key file's bytes
    # Normalized name → sha256 (hex) of the only files that may be chosen: what --hash in a requirements file says.
    hashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
