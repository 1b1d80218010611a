"""An environment as it can be shown and compared, wherever it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# What the entries of a group are: everything that there is; everything that was added to the base; or only what
# somebody happened to write down, so that a missing entry says nothing.
Scope = Literal["all", "added", "some"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """What is known of an environment; ``None`` or a missing group means that the source does not say."""

    title: str  # what the user called it: the REF
    kind: Literal["lock", "image", "run", "live"]
    fingerprint: str | None = None
    platform: str | None = None
    base: Mapping[str, str] | None = None  # reference, digest
    os: str | None = None  # pretty name
    python: str | None = None  # full version
    cuda: Mapping[str, str] | None = None  # version, min_driver, driver, GPU: what is known
    apt: Mapping[str, str] | None = None  # package → version
    pip: Mapping[str, str] | None = None  # normalized name → version
    hashes: Mapping[str, str] | None = None  # normalized name → sha256 of the wheel
    env: Mapping[str, str] | None = None
    seeds: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    image: Mapping[str, str] = field(default_factory=dict)  # reference, image_id, manifest_digest
    scope: Mapping[str, Scope] = field(default_factory=dict)  # group → what its entries are; "all" where absent


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One difference between two environments."""

    group: str  # "platform", "python", "cuda", "pip", "apt", "base", "os", "env", "seeds", "labels"
    name: str
    before: str | None  # None: absent before
    after: str | None  # None: absent after
    jump: str  # "added", "removed", "major", "minor", "patch", "local", "build", "changed"
    weight: int  # how likely it is to move a result; larger first
    downgrade: bool = False  # the version after is the older one


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All differences, worst suspects first, and the verdict in one line."""

    before: Environment
    after: Environment
    changes: tuple[Change, ...]
    unknown: tuple[str, ...]  # groups that one side does not say
    verdict: str

    @property
    def same(self) -> bool:
        """Return whether nothing that both sides say differs."""
        return not self.changes


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is not as it should be, and what to do about it."""

    where: str
    message: str
    remedy: str = ""
    package: str = ""  # what it belongs to, for people: "numpy 2.1.0"; empty where nothing is known to own it
