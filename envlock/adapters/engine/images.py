"""Images that the engine has, gets and gives names to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import docker.errors

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.failures import explanation
from envlock.adapters.engine.transfers import registry_refusal, transfer
from envlock.errors import EngineError, InputError, UnknownImage
from envlock.formats.hosts import is_loopback
from envlock.formats.reference import DEFAULT_REGISTRY, parse_reference
from envlock.model.lock import Descriptor
from envlock.ports import EngineImage, EngineInfo, Progress

_CONFLICT = 409


def info(connection: Connection) -> EngineInfo:
    """Say what engine this is."""
    api = connection.api
    with connection.reported("asking what it is"):
        about, version = api.info(), api.version()
    status = dict(row for row in about.get("DriverStatus") or () if len(row) == 2)  # noqa: PLR2004 - (name, value)
    storage = [name for name in (status.get("driver-type"), about.get("Driver")) if name]
    return EngineInfo(
        version=str(version.get("Version", "")),
        platform=f"{version.get('Os', 'linux')}/{version.get('Arch', '')}",
        storage=" / ".join(storage),
        mirrors=_mirrors(about.get("RegistryConfig") or {}, here=connection.endpoint.is_here),
    )


def _mirrors(registries: Mapping[str, Any], *, here: bool) -> tuple[str, ...]:
    """Return the mirrors; those on the loopback of an engine that is elsewhere are not what we would find on ours."""
    hub = (registries.get("IndexConfigs") or {}).get(DEFAULT_REGISTRY) or {}
    urls = dict.fromkeys(str(url) for url in [*(registries.get("Mirrors") or ()), *(hub.get("Mirrors") or ())])
    return tuple(url for url in urls if here or not is_loopback(urlsplit(url).hostname or ""))


def find(connection: Connection, reference: str) -> EngineImage | None:
    """Return the image that the engine has by this name, or None."""
    api = connection.api
    with connection.reported(f"looking for {reference}"):
        try:
            return _image(api.inspect_image(reference))
        except docker.errors.NotFound:
            return None


def pull(connection: Connection, reference: str, *, platform: str, progress: Progress) -> EngineImage:
    """Pull an image for a platform."""
    name = parse_reference(reference)
    title = f"Pulling {name}"
    login = connection.login(name.registry)
    with connection.fresh() as api, connection.reported(title, also=registry_refusal(name, doing="pull")):
        answers = api.pull(name.name, tag=name.target, platform=platform, stream=True, decode=True, auth_config=login)
        transfer(answers, name, doing="pull", title=title, active=("Downloading",), progress=progress)
    image = find(connection, str(name) if name.digest is None else f"{name.name}@{name.digest}")
    if image is None:
        raise EngineError(
            f"the engine pulled {name}, and then does not have it", hint="is another program removing images there?"
        )
    if not _same_platform(image.platform, platform):
        raise InputError(
            f"{name} is for {image.platform}, not for {platform}",
            hint="choose an image that exists for that platform, or set `platform` in the spec",
        )
    return image


def distribution(connection: Connection, reference: str) -> Descriptor:
    """Ask the registry, through the engine, what a reference points to."""
    name = parse_reference(reference)
    doing = f"asking the registry for {name}"
    login = connection.login(name.registry)
    with connection.reported(doing, also=registry_refusal(name, doing="read")):
        found = connection.api.inspect_distribution(str(name), auth_config=login)["Descriptor"]
    return Descriptor(media_type=found["mediaType"], digest=found["digest"], size=int(found["size"]))


def labelled(connection: Connection, label: str) -> list[EngineImage]:
    """Return all images that have a label of this name."""
    with connection.reported("looking at its images"):
        rows = connection.api.images(filters={"label": label})
    found = (find(connection, str(row["Id"])) for row in rows)
    return [image for image in found if image is not None]


def tag(connection: Connection, image_id: str, reference: str) -> None:
    """Give an image a further name."""
    name = parse_reference(reference)

    def missing(error: docker.errors.APIError) -> UnknownImage | None:
        return (
            UnknownImage(f"the engine has no image {image_id}") if isinstance(error, docker.errors.NotFound) else None
        )

    with connection.reported(f"tagging {name}", also=missing):
        connection.api.tag(image_id, name.name, tag=name.target, force=True)


def remove(connection: Connection, reference: str, *, parents: bool = True) -> None:
    """Remove an image, or just this name of it; no error where it is gone.

    ``parents`` takes the untagged images with it that it was built from, where nothing else needs them.
    """
    api = connection.api

    def in_use(error: docker.errors.APIError) -> EngineError | None:
        if error.response is None or error.response.status_code != _CONFLICT:
            return None
        return EngineError(f"{reference} is in use and stays: {explanation(error)}", hint="remove what uses it first")

    with connection.reported(f"removing {reference}", also=in_use):
        try:
            api.remove_image(reference, noprune=not parents)
        except docker.errors.NotFound:
            return


def _image(data: Mapping[str, Any]) -> EngineImage:
    config = data.get("Config") or {}
    platform = "/".join(part for part in (data.get("Os"), data.get("Architecture"), data.get("Variant")) if part)
    return EngineImage(
        id=str(data["Id"]),
        tags=tuple(data.get("RepoTags") or ()),
        digests=tuple(data.get("RepoDigests") or ()),
        diff_ids=tuple((data.get("RootFS") or {}).get("Layers") or ()),
        platform=platform,
        env=variables(config.get("Env") or ()),
        labels=dict(config.get("Labels") or {}),
        user=str(config.get("User") or ""),
        workdir=str(config.get("WorkingDir") or ""),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        size=int(data.get("Size") or 0),
        author=str(data.get("Author") or ""),
        config=dict(config),
    )


def variables(lines: Iterable[str]) -> dict[str, str]:
    """Return ``K=V`` lines as a mapping (OCI image spec, config.Env)."""
    return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}


def _same_platform(found: str, wanted: str) -> bool:
    return found.split("/")[:2] == wanted.split("/")[:2]
