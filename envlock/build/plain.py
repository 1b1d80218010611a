"""Building the plan's Dockerfile with the engine's own builder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from envlock.build.checked import installed_in
from envlock.build.engine_images import discarded_on_failure, have_base
from envlock.build.workshop import Builder, Stopwatch, Workshop
from envlock.formats.context import context_files, tar_stream
from envlock.formats.dockerfile import dockerfile
from envlock.formats.reference import parse_reference
from envlock.model.image import AUTHOR, Image
from envlock.model.plan import Plan
from envlock.ports import Engine, EngineImage, Progress, Wanted


def build_plain(
    plan: Plan,
    names: Sequence[str],
    workshop: Workshop,
    engine: Builder,
    *,
    wanted: Callable[[], Sequence[Wanted]],
    project: Path,
) -> Image:
    """Return the image, under its names, made now or found.

    Nothing of an image that is not what the lock says is left. Raises ``BuildFailed``, ``EngineError``,
    ``RegistryError``, and what fetching raises.
    """
    watch = Stopwatch()
    found = engine.find(names[0])
    reused = found is not None and _is_current(found, plan)
    if found is not None and reused:
        installed = installed_in(found.id, plan, workshop, engine)
        for name in set(names) - set(found.tags):
            engine.tag(found.id, name)
        image_id = found.id
    else:
        image_id = _made(plan, names[0], workshop, engine, wanted=wanted, project=project, watch=watch)
        with discarded_on_failure(image_id, engine):
            with watch("verify"):
                installed = installed_in(image_id, plan, workshop, engine)
            with watch("tag"):
                for name in reversed(names):  # its own name last: who finds that finds everything done
                    engine.tag(image_id, name)
    return Image(
        reference=names[0],
        tags=tuple(names),
        image_id=image_id,
        fingerprint=plan.fingerprint,
        manifest_digest=_known_digest(found, names[0]) if found is not None and reused else None,
        installed=installed,
        reused=reused,
        seconds=watch.seconds,
    )


def push_plain(names: Sequence[str], engine: Engine, *, progress: Progress) -> str:
    """Push through the engine, and return the manifest digest under the first name; raises ``RegistryError``."""
    digests = [engine.push(name, progress=progress) for name in names]
    return digests[0]


def _is_current(image: EngineImage, plan: Plan) -> bool:
    # The labels hold the fingerprint, the project's digest and what git says: all that an image is made from.
    return image.author != AUTHOR and all(image.labels.get(name) == value for name, value in plan.config.labels.items())


def _made(
    plan: Plan,
    name: str,
    workshop: Workshop,
    engine: Builder,
    *,
    wanted: Callable[[], Sequence[Wanted]],
    project: Path,
    watch: Stopwatch,
) -> str:
    with watch("base"):
        there = have_base(plan.base, platform=plan.lock.platform, engine=engine, progress=workshop.progress)
        base = None if there == plan.base.pinned else there  # where its pinned name will not do
    with watch("fetch"):
        found = workshop.artifacts.fetch(wanted(), progress=workshop.progress)
    files = context_files(plan, dockerfile=dockerfile(plan, base=base), artifacts=found, project=project)
    with watch("build"), workshop.progress.task(f"Building {name}") as task, tar_stream(files) as context:
        return engine.build(context, platform=plan.lock.platform, on_line=task.note)


def _known_digest(found: EngineImage, name: str) -> str | None:
    """Return the manifest digest that a registry once gave the image under this repository."""
    repository = parse_reference(name).repository
    digests = (parse_reference(digest) for digest in found.digests)
    return next((digest.digest for digest in digests if digest.repository == repository), None)
