"""``envlock verify``: an image against its lock, file by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from envlock import verify as verification
from envlock.cli import refs
from envlock.cli.files import read_lock
from envlock.cli.world import World
from envlock.errors import UsageError
from envlock.formats.lock_json import fingerprint
from envlock.model.lock import Lock
from envlock.ports import EngineImage


class Composing(Protocol):
    """The part of ``World`` that knows how an image of a lock is made."""

    @property
    def trees(self) -> verification.Trees:
        """Return the engine."""

    def expectation(self, lock: Lock, image: EngineImage, *, rebuild: bool) -> verification.Expectation:
        """Say what the image of a lock has to be; with ``rebuild``, make everything again with an empty store."""


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
    composing = cast("Composing", world)
    reference, lock = _understood(ref, lock_file, world=world)
    report = verification.verify(
        reference,
        engine=composing.trees,
        expectation=lambda lock, image: composing.expectation(lock, image, rebuild=rebuild),
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
