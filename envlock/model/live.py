"""A Python environment that runs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envlock.model.image import Installed


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveEnvironment:
    """What an interpreter and the machine that it runs on say of themselves."""

    installed: Installed
    executable: str  # absolute
    prefix: str
    implementation: str  # "cpython"
    platform: str  # "linux/amd64"
    libc: str | None  # "glibc 2.36"
    os: str | None  # pretty name of os-release(5)
    # Normalized name → why its version does not say what is installed: "editable", or a URL without credentials.
    direct: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)  # variables that can move a result; nothing secret
    apt: Mapping[str, str] | None = None  # package → version, where there is dpkg
    driver: str | None = None  # NVIDIA's, "550.54.15"
    gpus: tuple[str, ...] = ()  # names
