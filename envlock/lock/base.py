"""Pinning the base image and reading what is inside it."""

from __future__ import annotations

from dataclasses import dataclass

from envlock.errors import EngineError, InputError, RegistryError, UnknownImage
from envlock.formats.debian import parse_os_release
from envlock.formats.reference import Reference, parse_reference
from envlock.lock.interpreter import Interpreter
from envlock.model.lock import Base, BaseOs, Descriptor
from envlock.model.spec import Spec
from envlock.ports import Container, Engine, EngineImage, Manifest, Progress, Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedBase:
    """A base that is pinned and that the engine has, before anybody looked inside."""

    reference: str
    repository: str  # "" for a local image
    index_digest: str | None
    manifest_digest: str | None
    image_id: str
    layers: tuple[Descriptor, ...]
    image: EngineImage


def pin_base(spec: Spec, *, locked: Base | None, engine: Engine, registry: Registry, progress: Progress) -> PinnedBase:
    """Resolve the spec's base to digests and have the engine hold exactly that image.

    ``locked`` is the base of the lock so far: where its reference is still what the spec says, it stays. An image
    that the engine holds under this name without any registry's digest is a local one, pinned by its ID.
    Raises ``InputError`` for an unknown tag, ``RegistryError`` or ``EngineError`` where one of them cannot be asked.
    """
    if locked is not None and locked.reference == spec.base:
        return _same_base(spec, locked, engine=engine, progress=progress)
    reference = parse_reference(spec.base)
    local = engine.find(spec.base)
    if local is not None and _is_local(local, reference):
        progress.message(
            f"base {spec.base} is in no registry: pinned by its image ID, for engines that have it (push it to pin it"
            " for all)"
        )
        return _local_base(spec, local)
    with progress.task(f"Resolving {spec.base}"):
        try:
            manifest = registry.manifest(spec.base, platform=spec.platform)
        except (RegistryError, UnknownImage) as error:
            return _through_engine(spec, reference, engine=engine, progress=progress, cause=error)
    return _from_manifest(spec, reference, manifest, engine=engine, progress=progress)


def look_inside(pinned: PinnedBase, container: Container, interpreter: Interpreter, *, cuda: str | None) -> Base:
    """Return the base with what was found inside a container of it."""
    return Base(
        reference=pinned.reference,
        repository=pinned.repository,
        index_digest=pinned.index_digest,
        manifest_digest=pinned.manifest_digest,
        image_id=pinned.image_id,
        layers=pinned.layers,
        diff_ids=pinned.image.diff_ids,
        os=_os(container),
        python=interpreter.python,
        cuda=cuda,
        env=dict(pinned.image.env),
    )


def check_python(spec: Spec, interpreter: Interpreter) -> None:
    """Hold the base's interpreter against the spec; raises ``InputError`` where it is another version."""
    found = interpreter.python.version
    if found.split(".")[: len(spec.python.split("."))] != spec.python.split("."):
        minor = ".".join(found.split(".")[:2])
        raise InputError(
            f"the base {spec.base} has Python {found} ({interpreter.python.executable}), the spec says {spec.python}",
            hint=f'write python: "{minor}" in the spec, or choose a base with Python {spec.python}',
        )


def _same_base(spec: Spec, locked: Base, *, engine: Engine, progress: Progress) -> PinnedBase:
    image = engine.find(locked.pinned)
    if image is None and locked.manifest_digest is None:
        raise EngineError(
            f"the engine has no image {locked.image_id}, which the lock's base {spec.base} is pinned to",
            hint="load the image into this engine, or take what the name means now with 'envlock lock --upgrade'",
        )
    if image is None:
        image = engine.pull(locked.pinned, platform=spec.platform, progress=progress)
    return PinnedBase(
        reference=spec.base,
        repository=locked.repository,
        index_digest=locked.index_digest,
        manifest_digest=locked.manifest_digest,
        image_id=locked.image_id,
        layers=locked.layers,
        image=image,
    )


def _is_local(image: EngineImage, reference: Reference) -> bool:
    if reference.digest is not None:
        return False
    digests = (parse_reference(digest) for digest in image.digests)
    return not any(digest.repository == reference.repository for digest in digests)


def _local_base(spec: Spec, image: EngineImage) -> PinnedBase:
    if image.platform != spec.platform:
        raise InputError(
            f"the local image {spec.base} is for {image.platform}, and the spec says {spec.platform}",
            hint="build or load the image for that platform, or change platform: in the spec",
        )
    return PinnedBase(
        reference=spec.base,
        repository="",
        index_digest=None,
        manifest_digest=None,
        image_id=image.id,
        layers=(),
        image=image,
    )


def _from_manifest(
    spec: Spec, reference: Reference, manifest: Manifest, *, engine: Engine, progress: Progress
) -> PinnedBase:
    pinned = f"{reference.name}@{manifest.digest}"
    image = engine.find(pinned) or engine.pull(pinned, platform=spec.platform, progress=progress)
    if image.diff_ids != manifest.diff_ids:
        raise RegistryError(
            f"{pinned}: the engine's image has other layers than the registry's manifest",
            hint="remove the image from the engine and lock again",
        )
    return PinnedBase(
        reference=spec.base,
        repository=reference.name,
        index_digest=manifest.index_digest,
        manifest_digest=manifest.digest,
        image_id=manifest.config.digest,
        layers=manifest.layers,
        image=image,
    )


def _through_engine(
    spec: Spec, reference: Reference, *, engine: Engine, progress: Progress, cause: RegistryError | UnknownImage
) -> PinnedBase:
    """Let the engine pull: it may reach a registry that this machine cannot (a remote engine, a mirror of its own)."""
    try:
        image = engine.pull(spec.base, platform=spec.platform, progress=progress)
    except (EngineError, RegistryError, InputError) as error:
        # the unknown tag is the better message of the two, whoever said so
        raise (error if isinstance(error, UnknownImage) else cause) from error
    digests = [digest for digest in map(parse_reference, image.digests) if digest.repository == reference.repository]
    if not digests:
        raise cause
    return PinnedBase(
        reference=spec.base,
        repository=reference.name,
        index_digest=None,
        manifest_digest=digests[0].digest,
        image_id=image.id,
        layers=(),
        image=image,
    )


def _os(container: Container) -> BaseOs:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        content = container.read(path)
        if content is not None:
            fields = parse_os_release(content.decode(errors="replace"))
            return BaseOs(
                id=fields.get("ID", "linux"),
                version_id=fields.get("VERSION_ID", ""),
                codename=fields.get("VERSION_CODENAME", ""),
                pretty_name=fields.get("PRETTY_NAME", fields.get("ID", "linux")),
            )
    return BaseOs(id="linux", version_id="", codename="", pretty_name="Linux without os-release")
