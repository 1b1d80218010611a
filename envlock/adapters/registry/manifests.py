"""Reading manifests, indexes and configurations (OCI image spec; Docker image manifest version 2, schema 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envlock.errors import InputError, RegistryError
from envlock.model.lock import Descriptor

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
ACCEPT = ", ".join((*INDEXES, *MANIFESTS))

_SAME_AS_NONE = {"arm64": "v8", "arm": "v7", "amd64": "v1"}  # variants that a platform without one means


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What is needed of an image configuration."""

    platform: str
    diff_ids: tuple[str, ...]
    env: Mapping[str, str]


def read_json(content: bytes, where: str) -> dict[str, Any]:
    """Return a JSON object; raises ``RegistryError`` where it is anything else."""
    try:
        data = json.loads(content)
    except ValueError as error:
        raise RegistryError(f"{where} is not JSON") from error
    if not isinstance(data, dict):
        raise RegistryError(f"{where} is not a JSON object")
    return data


def kind_of(data: Mapping[str, Any], content_type: str, where: str) -> str:
    """Return "index" or "manifest"; raises ``RegistryError`` for formats of the past and for nonsense."""
    stated = str(data.get("mediaType") or content_type.partition(";")[0].strip())
    if stated in INDEXES or (stated not in MANIFESTS and "manifests" in data):
        return "index"
    if stated in MANIFESTS or {"config", "layers"} <= data.keys():
        return "manifest"
    if data.get("schemaVersion") == 1:
        raise RegistryError(f"{where} is of a format (schema 1) that engines do not run any more", hint="push it again")
    raise RegistryError(f"{where} is of an unknown kind: {stated[:80] or 'none stated'}")


def choose(data: Mapping[str, Any], platform: str, where: str) -> Descriptor:
    """Return the entry of an index for a platform; raises ``InputError`` where there is none."""
    system, architecture, variant = _parts(platform)
    offered: dict[tuple[str, str, str], Descriptor] = {}
    for entry in _list(data, "manifests", where):
        found = entry.get("platform") or {} if isinstance(entry, dict) else {}
        key = _normal(str(found.get("os")), str(found.get("architecture")), str(found.get("variant") or ""))
        offered.setdefault(key, descriptor(entry, where))
    for candidate in _acceptable(architecture, variant):
        if (system, architecture, candidate) in offered:
            return offered[system, architecture, candidate]
    names = ["/".join(part for part in key if part) for key in offered if "unknown" not in key]
    raise InputError(
        f"{where} does not exist for {platform}",
        hint=f"it exists for {', '.join(sorted(names)) or 'no platform at all'}",
    )


def _parts(platform: str) -> tuple[str, str, str]:
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return _normal(system, architecture, variant)


def _normal(system: str, architecture: str, variant: str) -> tuple[str, str, str]:
    return system, architecture, "" if _SAME_AS_NONE.get(architecture) == variant else variant


def _acceptable(architecture: str, variant: str) -> list[str]:
    """Return the variants that run on this one, best first: arm and amd64 run what is older, too."""
    if architecture not in ("arm", "amd64"):
        return [variant]
    newest = variant or _SAME_AS_NONE[architecture]
    if not newest[1:].isdecimal():
        return [variant]
    return [_normal("", architecture, f"v{number}")[2] for number in range(int(newest[1:]), 0, -1)]


def descriptor(entry: Any, where: str) -> Descriptor:
    """Read a descriptor; raises ``RegistryError``."""
    try:
        found = Descriptor(media_type=str(entry["mediaType"]), digest=entry["digest"], size=int(entry["size"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(f"{where} holds an entry without type, digest or size") from error
    algorithm, _, value = str(found.digest).partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):  # noqa: PLR2004
        raise RegistryError(f"{where} holds a digest that is none: {str(found.digest)[:80]!r}")
    return found


def contents(data: Mapping[str, Any], where: str) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Return a manifest's configuration and layers."""
    layers = tuple(descriptor(entry, where) for entry in _list(data, "layers", where))
    return descriptor(data.get("config"), where), layers


def read_config(content: bytes, where: str) -> Config:
    """Read an image configuration."""
    data = read_json(content, where)
    try:
        diff_ids = tuple(str(digest) for digest in data["rootfs"]["diff_ids"])
        lines = [str(line) for line in (data.get("config") or {}).get("Env") or ()]
        platform = [str(data[part]) for part in ("os", "architecture")] + [str(data.get("variant") or "")]
    except (KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{where} is not an image configuration") from error
    env = {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}
    return Config(platform="/".join(filter(None, _normal(*platform))), diff_ids=diff_ids, env=env)


def check_platform(config: Config, platform: str, where: str) -> None:
    """Hold a single image against the platform that is wanted; raises ``InputError``."""
    system, architecture, variant = _parts(platform)
    found = _parts(config.platform)
    if found[:2] != (system, architecture) or found[2] not in _acceptable(architecture, variant):
        raise InputError(
            f"{where} is for {config.platform}, not for {platform}", hint="choose another image or platform"
        )


def _list(data: Mapping[str, Any], name: str, where: str) -> list[Any]:
    found = data.get(name)
    if not isinstance(found, list):
        raise RegistryError(f"{where} has no list of {name}")
    return found
