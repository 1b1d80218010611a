"""What a spec resolved to: everything that is pinned, and nothing about the machine that resolved it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from envlock.model.spec import ImageOptions, ProjectFiles, Seeds, Tracking


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """A blob in a registry (OCI image spec, descriptor)."""

    media_type: str
    digest: str  # "sha256:<hex>"
    size: int  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseOs:
    """os-release(5) of the base."""

    id: str
    version_id: str
    codename: str
    pretty_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BasePython:
    """The interpreter found in the base: what wheels are chosen for."""

    version: str  # full, "3.11.2"
    executable: str  # absolute path in the image
    prefix: str
    implementation: str  # "cpython"
    libc: str  # "glibc 2.36"
    markers: Mapping[str, str]  # PEP 508 environment


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """The base image, pinned.

    ``manifest`` is absent for an image that is in no registry: then ``image_id`` alone pins it.
    """

    reference: str  # as the spec has it
    repository: str  # to pull from, by digest; "" for a local image
    index_digest: str | None = None  # digest that the tag pointed to (a multi-platform index)
    manifest_digest: str | None = None  # digest of this platform's manifest
    image_id: str  # config digest (OCI image spec, image ID)
    layers: tuple[Descriptor, ...] = ()  # as in the manifest; empty for a local image
    diff_ids: tuple[str, ...]
    os: BaseOs
    python: BasePython
    cuda: str | None = None  # as found inside
    env: Mapping[str, str] = field(default_factory=dict)  # the base's own environment

    @property
    def pinned(self) -> str:
        """Return what a Dockerfile or an engine can resolve to exactly this base."""
        return f"{self.repository}@{self.manifest_digest}" if self.manifest_digest else self.image_id


@dataclass(frozen=True, kw_only=True, slots=True)
class AptSource:
    """An apt repository by name. ``uri`` is there only where the spec itself declares it."""

    name: str  # the suite for the base's own repositories ("bookworm-security"), the spec's name for an extra one
    suite: str
    components: tuple[str, ...]
    uri: str | None = None
    key_sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Deb:
    """One .deb of the closure."""

    name: str
    version: str
    architecture: str
    source: str  # AptSource.name
    path: str  # pool path, relative to the repository's URI
    sha256: str  # hex
    size: int  # bytes
    requested: bool = False  # asked for by name, or pulled in by another package

    @property
    def filename(self) -> str:
        """Return the last part of the pool path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonSource:
    """A package index or folder by name. ``location`` is there only where the spec itself declares it."""

    name: str  # "default" for the default index
    kind: Literal["index", "find-links"]
    location: str | None = None  # URL, or a path relative to the lock; never absolute
    packages: tuple[str, ...] = ()  # the packages bound to it


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceBuild:
    """The sdist that a wheel was built from, and with what: enough to build it again."""

    source: str  # PythonSource.name
    filename: str
    sha256: str
    size: int
    build_requires: tuple[Wheel, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """Exactly the chosen file of one package."""

    name: str  # normalized (PEP 503)
    version: str
    source: str  # PythonSource.name
    filename: str
    sha256: str  # hex
    size: int  # bytes
    required_by: tuple[str, ...] = ()  # normalized names; empty for what only the spec asked for
    requested: bool = False  # asked for by the spec
    built_from: SourceBuild | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CudaEvidence:
    """One place where a CUDA version was seen."""

    where: str  # "base", "torch 2.1.2+cu118", "apt libcudart11.0"
    version: str  # as precise as the place says: "11", "11.8", "11.8.89"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cuda:
    """CUDA in this environment."""

    version: str  # major.minor where anything says the minor
    min_driver: str  # lowest Linux driver that runs it
    evidence: tuple[CudaEvidence, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What was asked for, so that ``lock --check`` and ``build`` can say what changed, with no network."""

    base: str
    python: str
    platform: str
    cuda: str | None
    as_of: str | None
    apt: tuple[str, ...]
    apt_repositories: tuple[str, ...]  # "name uri suite components key-sha256"
    apt_snapshot: str | None
    indexes: tuple[str, ...]  # "name url packages"
    find_links: tuple[str, ...]  # "name path"
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    sdist: tuple[str, ...]
    resolver: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """Everything that is pinned. A lock alone is enough to rebuild."""

    name: str
    platform: str
    base: Base
    apt_sources: tuple[AptSource, ...]
    debs: tuple[Deb, ...]
    python_sources: tuple[PythonSource, ...]
    wheels: tuple[Wheel, ...]
    installer: Wheel  # the pip that installs the wheels in a plain build; not itself in the environment
    cuda: Cuda | None
    env: Mapping[str, str]
    seeds: Seeds
    image: ImageOptions
    project: ProjectFiles
    mlflow: Tracking
    inputs: Inputs
