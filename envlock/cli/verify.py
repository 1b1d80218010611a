"""``envlock verify``: an image against its lock, file by file."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from envlock import verify as verification
from envlock.build import Workshop, have_base, means_of
from envlock.cli import refs
from envlock.cli.embedded import plan_of_image
from envlock.cli.files import read_lock
from envlock.cli.packages import wanted
from envlock.cli.workshop import Sharing, opened_workshop
from envlock.cli.world import World
from envlock.compose import assemble
from envlock.errors import InputError, UsageError
from envlock.formats.lock_json import fingerprint
from envlock.formats.oci_archive import loadable
from envlock.layers.claims import scratch
from envlock.layers.store import LayerStore
from envlock.model.image import AUTHOR
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.lock import Lock
from envlock.model.plan import PROJECT_LABEL, Plan
from envlock.plan import project_digest
from envlock.ports import EngineImage

_BLOCK = 1 << 20  # bytes


def verify(
    ref: Annotated[str, typer.Argument(metavar="REF", help="An image, or a lock file: the image of that lock.")],
    *,
    lock_file: Annotated[
        Path | None, typer.Option("--lock", help="Lock to hold it against. Default: the one that the image carries.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make everything again from the packages, and compare digests too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Hold an image against its lock, file by file: what is missing, added or changed. Exit code 0 sound, 1 findings.

    Nothing in the image is run.

    Example:  envlock verify registry.example.org/team/demo:v1
    """
    world = World.here()
    reference, lock = _understood(ref, lock_file, world=world)
    with ExitStack() as stack:
        report = verification.verify(
            reference,
            engine=world.engine,
            expectation=lambda lock, image: _expected(lock, image, rebuild=rebuild, world=world, stack=stack),
            lock=lock,
            progress=world.progress,
        )
    if as_json:
        print(json.dumps({"ref": ref, **verification.as_json(report)}, indent=2, ensure_ascii=False))
    else:
        print(verification.as_text(report, title=ref), end="")
    if report.findings:
        raise typer.Exit(1)


def _understood(text: str, lock_file: Path | None, *, world: World) -> tuple[str, Lock | None]:
    """Return the image's name, and the lock where the user named one."""
    ref = refs.parse_ref(text, cwd=world.cwd)
    if ref.kind == "image":
        return ref.value, read_lock(lock_file)[0] if lock_file else None
    if ref.kind == "lock":
        if lock_file is not None:
            raise UsageError(f"{text} is a lock: --lock goes with an image")
        lock = read_lock(world.cwd / ref.value)[0]
        return f"{lock.image.repository}:env-{fingerprint(lock)[:12]}", lock
    raise UsageError(f"{text} is no image", hint="verify takes an image, or a lock whose image is to be verified")


def _expected(
    lock: Lock, image: EngineImage, *, rebuild: bool, world: World, stack: ExitStack
) -> verification.Expectation:
    """Make, or find, all that an image of this lock has; with ``rebuild``, in a store that is empty."""
    if image.author != AUTHOR:
        raise InputError(
            "the image was built by an engine's own builder, whose layers nobody can make again",
            hint="only images that 'envlock build' composes can be verified: build without --plain",
        )
    workshop = stack.enter_context(opened_workshop(with_engine=True, sharing=Sharing(), world=world))
    if rebuild:
        workshop = replace(workshop, store=LayerStore(stack.enter_context(scratch(world.cache, "rebuild"))))
    plan = plan_of_image(image, lock, world)
    composed = _composed(plan, workshop, world)
    whole = project_digest(plan.project) == image.labels.get(PROJECT_LABEL)
    base = have_base(plan.base, platform=lock.platform, engine=world.engine, progress=world.progress)
    ids = {composed.image_id, loadable(composed, platform=lock.platform).digest}
    if rebuild and whole and image.id not in ids:
        # An engine that keeps blobs calls what it pulled by the manifest of the compressed layers.
        ids.add(workshop.publisher.digest(composed, open_layer=workshop.store.open) or "")
    again = verification.Again(image=composed, ids=frozenset(ids), whole=whole)
    return verification.Expectation(
        base=base,
        layers=[partial(workshop.store.open, layer) for layer in composed.layers],
        with_project=whole,
        config=json.loads(composed.config)["config"],
        again=again if rebuild else None,
    )


def _composed(plan: Plan, workshop: Workshop, world: World) -> ComposedImage:
    """Return the plan's image; its layers are read once more before anything is held against them."""
    with workshop.bases.opened(plan.base, platform=plan.lock.platform) as base:
        while True:
            assembled = assemble(
                plan,
                base,
                means_of(plan, workshop),
                wanted=partial(wanted, plan.lock, world.cwd, world=world),
                project=world.cwd if plan.project.files else None,
            )
            composed = assembled.image
            damaged = [layer for layer in composed.layers if not _is_sound(layer, workshop.store)]
            if not damaged:
                return composed
            for layer in damaged:
                workshop.store.drop(layer.key)


def _is_sound(layer: StoredLayer, store: LayerStore) -> bool:
    digest = hashlib.sha256()
    with store.open(layer) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}" == layer.diff_id
