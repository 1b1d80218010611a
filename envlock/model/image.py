"""What came out of a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AUTHOR = "envlock"  # of images whose layers are envlock's own (OCI image spec, config)


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """What was read inside a container of an image, or in a running environment."""

    python_version: str
    packages: Mapping[str, str]  # normalized name → version
    freeze: str  # ``pip freeze`` where there is pip, else the same from the installed metadata
    # What they say of themselves when a training script asks, where that is another text than above: "python" →
    # ``sys.version``, "torch" → ``torch.__version__``. MLflow params cannot be changed once they are logged, so a
    # record has to use the text that the script will.
    reported: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A built, checked and tagged image."""

    reference: str  # repository:env-<12 hex>
    tags: tuple[str, ...]  # every reference that names it
    image_id: str
    fingerprint: str
    manifest_digest: str | None = None  # known once pushed
    pushed: str | None = None  # reference that was pushed
    installed: Installed
    reused: bool = False  # nothing had to be done
    seconds: Mapping[str, float] = field(default_factory=dict)  # per step
