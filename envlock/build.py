"""``build``: from a plan to an image that is checked and tagged, through the engine's own builder.

An image is only ever seen under its name after what is installed in it was held against the lock. Whatever happens
before (a failing step, a difference, Ctrl-C), nothing of it stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Protocol

from envlock.errors import BuildFailed, EngineError, UsageError
from envlock.formats.context import context_files, tar_stream
from envlock.formats.dockerfile import dockerfile
from envlock.formats.installed import as_installed, differences
from envlock.formats.names import IMAGE_REFERENCE, TAG
from envlock.formats.probe import SCRIPT, parse_probe
from envlock.formats.reference import DEFAULT_REGISTRY, parse_reference
from envlock.model.image import Image, Installed
from envlock.model.plan import VENV, Plan
from envlock.ports import Artifacts, Completed, Container, Engine, EngineImage, Progress, Wanted

_PYTHON = f"{VENV}/bin/python"
_OFFICIAL = f"{DEFAULT_REGISTRY}/library/"  # where the public registry keeps images that have no owner in their name


class Readings(Protocol):
    """What was read inside images before, by image ID: an image never changes."""

    def get(self, image_id: str) -> Installed | None:
        """Return what was read, or None."""

    def put(self, image_id: str, installed: Installed) -> None:
        """Remember it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """What a build works with."""

    engine: Engine
    artifacts: Artifacts
    readings: Readings
    guard: Callable[[str], AbstractContextManager[None]]  # one build at a time of the thing with this name
    progress: Progress


def build(
    plan: Plan,
    *,
    workshop: Workshop,
    wanted: Sequence[Wanted],
    project: Path,
    tags: Sequence[str] = (),
    push: bool = False,
) -> Image:
    """Return the plan's image, made now or found; ``tags`` are tags or whole references beside the spec's own.

    ``wanted`` has every .deb and wheel of the plan, ``project`` is the project's folder. Raises ``UsageError`` for an
    impossible tag, ``BuildFailed`` for a failing step or an image that is not what the lock says, ``EngineError``,
    ``RegistryError``, and what fetching raises.
    """
    names = references(plan, tags)
    published = _published(names) if push else ()
    seconds: dict[str, float] = {}
    with workshop.guard(f"build-{plan.fingerprint}"):
        found = workshop.engine.find(names[0])
        if found is not None and _is_current(found, plan):
            image = _reuse(found, plan, names, workshop)
        else:
            image = _make(plan, names, workshop, wanted=wanted, project=project, seconds=seconds)
    if push:
        with _timed(seconds, "push"):
            image = _push(image, published, workshop)
    return replace(image, seconds=seconds)


def references(plan: Plan, tags: Sequence[str] = ()) -> tuple[str, ...]:
    """Return every name that the image gets, its own first; raises ``UsageError``."""
    repository = plan.lock.image.repository
    names = [f"{repository}:{plan.tag}"]
    for tag in (*plan.lock.image.tags, *tags):
        if re.fullmatch(TAG.pattern, tag):
            names.append(f"{repository}:{tag}")
        elif "@" not in tag and ":" in tag.rpartition("/")[2] and re.fullmatch(IMAGE_REFERENCE.pattern, tag):
            names.append(tag)
        else:
            raise UsageError(
                f"{tag!r} is neither a tag nor an image reference with a tag",
                hint="like v1 or registry.example.org/team/demo:v1",
            )
    return tuple(dict.fromkeys(names))


def _is_current(image: EngineImage, plan: Plan) -> bool:
    # The labels hold the fingerprint, the project's digest and what git says: all that an image is made from.
    return all(image.labels.get(name) == value for name, value in plan.config.labels.items())


def _reuse(found: EngineImage, plan: Plan, names: tuple[str, ...], workshop: Workshop) -> Image:
    installed = workshop.readings.get(found.id) or _verify(found.id, plan, workshop)
    for name in set(names) - set(found.tags):
        workshop.engine.tag(found.id, name)
    image = _image(found.id, plan, names, installed, reused=True)
    return replace(image, manifest_digest=_known_digest(found, names[0]))


def _make(
    plan: Plan,
    names: tuple[str, ...],
    workshop: Workshop,
    *,
    wanted: Sequence[Wanted],
    project: Path,
    seconds: dict[str, float],
) -> Image:
    with _timed(seconds, "base"):
        base = have_base(plan, engine=workshop.engine, progress=workshop.progress)
    with _timed(seconds, "fetch"):
        found = workshop.artifacts.fetch(wanted, progress=workshop.progress)
    files = context_files(plan, dockerfile=dockerfile(plan, base=base), artifacts=found, project=project)
    with _timed(seconds, "build"), workshop.progress.task(f"Building {names[0]}") as task, tar_stream(files) as context:
        image_id = workshop.engine.build(context, platform=plan.lock.platform, on_line=task.note)
    with _discarded_on_failure(image_id, workshop.engine):
        with _timed(seconds, "verify"):
            installed = _verify(image_id, plan, workshop)
        with _timed(seconds, "tag"):
            for name in reversed(names):  # its own name last: who finds that finds everything done
                workshop.engine.tag(image_id, name)
    return _image(image_id, plan, names, installed, reused=False)


def have_base(plan: Plan, *, engine: Engine, progress: Progress) -> str | None:
    """Have the base image in the engine; return what a Dockerfile has to call it where its pinned name will not do.

    Raises ``EngineError`` for a local image that is not there, and what pulling raises.
    """
    base = plan.base
    if engine.find(base.pinned) is not None:
        return None
    # The same image may be there without a registry's name for it: loaded from a file, or built here.
    if engine.find(base.image_id) is not None:
        return base.image_id
    if base.manifest_digest is not None:
        engine.pull(base.pinned, platform=plan.lock.platform, progress=progress)
        return None
    other = engine.find(base.reference)
    raise EngineError(
        f"the base image {base.reference} ({base.image_id[:19]}) is in no registry, and this engine does not have it"
        + (f": its {base.reference} is another image, {other.id[:19]}" if other else ""),
        hint="load it with 'docker load', or lock again with the base that is there",
    )


def _verify(image_id: str, plan: Plan, workshop: Workshop) -> Installed:
    with (
        workshop.progress.task("Checking what is installed in the image"),
        # The container's own helper runs with the base's Python: the environment's may be what is broken.
        workshop.engine.container(image_id, python=plan.base.python.executable) as container,
    ):
        installed = _inspect(container)
    found = differences(installed, plan.lock)
    if found:
        raise BuildFailed(
            "what is installed in the image is not what the lock says",
            details=found,
            hint="a wheel whose name and content disagree, or a base that adds packages to every environment",
        )
    workshop.readings.put(image_id, installed)
    return installed


def _inspect(container: Container) -> Installed:
    """Ask the image's own Python, as its user would run it."""
    try:
        probed = parse_probe(_run(container, "-c", SCRIPT))
    except ValueError as error:
        raise BuildFailed(f"the Python of the new image does not say what is installed: {error}") from error
    freeze = None
    if "pip" in probed.packages:
        options = ("--isolated", "--disable-pip-version-check")
        freeze = _run(container, "-m", "pip", *options, "freeze", "--all").decode(errors="replace")
    return as_installed(probed, freeze)


def _run(container: Container, *arguments: str) -> bytes:
    # Not in the project's folder, whose files could be taken for modules of the same name.
    done: Completed = container.run([_PYTHON, *arguments], env={"PIP_CONFIG_FILE": "/dev/null"}, workdir="/")
    if done.exit_code != 0:
        lines = (done.stderr or done.stdout).decode(errors="replace").splitlines()
        raise BuildFailed("the Python of the new image does not run", details=lines[-20:])
    return done.stdout


def _published(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that can be pushed: a bare one ("demo:v1") would mean the public registry's own images."""
    found = tuple(name for name in names if not parse_reference(name).repository.startswith(_OFFICIAL))
    if not found:
        raise UsageError(
            f"{names[0]} names no registry to push to",
            hint="set image: {repository: registry.example.org/team/demo} in the spec, or give such a name with --tag",
        )
    return found


def _push(image: Image, names: Sequence[str], workshop: Workshop) -> Image:
    digests = {name: workshop.engine.push(name, progress=workshop.progress) for name in names}
    return replace(image, manifest_digest=digests[names[0]], pushed=names[0])


def _known_digest(found: EngineImage, name: str) -> str | None:
    """Return the manifest digest that a registry once gave the image under this repository."""
    repository = parse_reference(name).repository
    digests = (parse_reference(digest) for digest in found.digests)
    return next((digest.digest for digest in digests if digest.repository == repository), None)


def _image(image_id: str, plan: Plan, names: tuple[str, ...], installed: Installed, *, reused: bool) -> Image:
    return Image(
        reference=names[0],
        tags=names,
        image_id=image_id,
        fingerprint=plan.fingerprint,
        installed=installed,
        reused=reused,
    )


@contextmanager
def _discarded_on_failure(image_id: str, engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        found = engine.find(image_id)
        # With all steps in the builder's cache it can be an image that has had a name for long.
        if found is not None and not found.tags:
            engine.remove(image_id)
        raise


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = perf_counter()
    try:
        yield
    finally:
        seconds[step] = round(perf_counter() - start, 3)
