"""``build``: from a plan to an image that is checked and named.

An image is composed from envlock's own layers or, on request, built from its Dockerfile by the engine's builder. It is
only ever seen under its name when it is whole; whatever happens before, nothing of it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envlock.build.names import published, references
from envlock.build.native import Outlets, build_native
from envlock.build.workshop import Stopwatch, Workshop
from envlock.errors import EngineError, UsageError
from envlock.model.image import Image
from envlock.model.plan import Plan
from envlock.ports import Wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the user wants beside the image."""

    tags: tuple[str, ...] = ()  # tags, or whole references, beside the spec's own
    push: bool = False
    layout: Path | None = None  # where to write an OCI layout: a folder, or an archive that ends in ".tar"
    plain: bool = False
    inspect: bool = True  # have the image's own Python say what is installed


def build(
    plan: Plan,
    *,
    workshop: Workshop,
    wanted: Callable[[], Sequence[Wanted]],
    project: Path,
    wishes: Wishes | None = None,
) -> Image:
    """Return the plan's image, made now or found.

    ``wanted`` gives every .deb and wheel of the plan, and is asked when the first one is lacking; ``project`` is the
    project's folder. Raises ``UsageError`` for an impossible wish, ``BuildFailed`` for a failing step or an image that
    is not what the lock says, ``EngineError``, ``RegistryError``, and what fetching raises.
    """
    wishes = wishes or Wishes()
    names = references(plan, wishes.tags)
    pushed = published(names) if wishes.push else ()
    with workshop.guard(f"build-{plan.fingerprint}"):
        if wishes.plain:
            return _plain(plan, names, pushed, workshop, wanted=wanted, project=project, wishes=wishes)
        if workshop.engine is None and not (pushed or wishes.layout):
            raise UsageError(
                "without a container engine, the image has to go somewhere else",
                hint="give --push, or --output with a folder or a file that ends in .tar",
            )
        if wishes.layout is not None:
            workshop.layouts.check(wishes.layout)
        outlets = Outlets(names=names, pushed=pushed, layout=wishes.layout, inspect=wishes.inspect)
        return build_native(plan, outlets, workshop, wanted=wanted, project=project)


def _plain(
    plan: Plan,
    names: tuple[str, ...],
    pushed: tuple[str, ...],
    workshop: Workshop,
    *,
    wanted: Callable[[], Sequence[Wanted]],
    project: Path,
    wishes: Wishes,
) -> Image:
    if wishes.layout is not None:
        raise UsageError("--output goes without --plain", hint="'docker save' writes what an engine has built")
    from envlock.build.plain import build_plain, push_plain  # noqa: PLC0415 - few ask for it, and templates come with it

    if workshop.engine is None:
        raise EngineError("--plain builds with a container engine, and there is none")
    image = build_plain(plan, names, workshop, workshop.engine, wanted=wanted, project=project)
    if not pushed:
        return image
    watch = Stopwatch(dict(image.seconds))
    with watch("push"):
        digest = push_plain(pushed, workshop.engine, progress=workshop.progress)
    return replace(image, manifest_digest=digest, pushed=pushed[0], seconds=watch.seconds)
