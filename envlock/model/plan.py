"""What will be built: an ordered list of layers and the image configuration, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envlock.model.lock import Base, Deb, Lock, Wheel

VENV = "/opt/venv"  # where the environment lives in every image
METADATA = "/opt/envlock"  # where an image keeps its own lock and requirements

FINGERPRINT_LABEL = "envlock.fingerprint"
PROJECT_LABEL = "envlock.project"  # sha256 over the project's files: path, mode and content

# The labels that envlock sets (OCI image spec, annotations); with all below "envlock.", a spec cannot set them.
RESERVED_LABELS = frozenset(
    f"org.opencontainers.image.{name}"
    for name in ("created", "revision", "version", "source", "title", "base.name", "base.digest")
)
RESERVED_LABEL_PREFIX = "envlock."


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectFile:
    """One file of the project that goes into the image."""

    path: str  # relative to the project, "/"-separated
    executable: bool
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """The state of the project that an image is built for."""

    files: tuple[ProjectFile, ...] = ()
    revision: str | None = None  # git commit
    dirty: bool = False
    version: str | None = None  # git describe
    source: str | None = None  # URL of the origin, without credentials
    epoch: int = 0  # seconds: SOURCE_DATE_EPOCH, else the commit's time, else 0; never the clock


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemLayer:
    """System packages, installed offline."""

    debs: tuple[Deb, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonLayer:
    """Wheels, installed into the virtual environment."""

    wheels: tuple[Wheel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataLayer:
    """Files that the image keeps about itself, below ``METADATA``."""

    files: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectLayer:
    """The project's files, below the working directory."""

    files: tuple[ProjectFile, ...]


Layer = SystemLayer | PythonLayer | MetadataLayer | ProjectLayer


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """The image's configuration (OCI image spec, config)."""

    env: Mapping[str, str]  # what envlock adds to the base's
    user: str
    uid: int
    workdir: str
    entrypoint: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What will be built, bottom layer first."""

    lock: Lock
    fingerprint: str  # hex
    base: Base
    layers: tuple[Layer, ...]
    config: ImageConfig
    project: Project

    @property
    def tag(self) -> str:
        """Return the tag that this environment's images get."""
        return f"env-{self.fingerprint[:12]}"
