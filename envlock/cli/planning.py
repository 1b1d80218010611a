"""From the user's files to a plan: what ``dockerfile``, ``export`` and ``build`` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envlock.adapters.project import read_project
from envlock.cli.files import SPEC, read_lock, read_requested, write_whole
from envlock.cli.world import World
from envlock.errors import StaleLock, UsageError
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.inputs import changes
from envlock.model.lock import Lock
from envlock.model.plan import Plan
from envlock.plan import make_plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A plan and the files that it comes from."""

    plan: Plan
    lock_bytes: bytes
    spec_bytes: bytes | None  # None where there is a lock alone
    folder: Path  # the project's


def planned(spec: Path, lock_file: Path, *, world: World, lock_if_missing: bool = False) -> Planned:
    """Return what would be built from a lock and the project around it.

    Raises ``StaleLock`` where a spec lies beside the lock and asks for something else, ``UsageError`` where there is no
    lock (or, with ``lock_if_missing``, no spec to lock either), and ``InputError``.
    """
    lock, content = _lock(spec, lock_file, world=world, lock_if_missing=lock_if_missing)
    has_spec = _has_spec(spec)
    folder = (spec if has_spec else lock_file).resolve().parent
    project = read_project(
        folder, lock.project, source_date_epoch=source_date_epoch(world), warn=world.progress.message
    )
    return Planned(
        plan=make_plan(lock, project, fingerprint=fingerprint(lock), lock_text=content.decode()),
        lock_bytes=content,
        spec_bytes=spec.read_bytes() if has_spec else None,
        folder=folder,
    )


def source_date_epoch(world: World) -> int | None:
    """Return SOURCE_DATE_EPOCH (reproducible-builds.org) in seconds; raises ``UsageError`` for anything but digits."""
    text = world.environ.get("SOURCE_DATE_EPOCH", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > _LATEST:
        raise UsageError(f"SOURCE_DATE_EPOCH is {text!r}", hint="it is a number of seconds since 1970, or not set")
    return int(text)


def _has_spec(spec: Path) -> bool:
    # A lock alone is enough; but who names a spec wants that one to be read.
    return spec.exists() or spec != Path(SPEC)


_LATEST = 253_402_300_799  # the end of the year 9999, the last that a label can say


def _lock(spec: Path, lock_file: Path, *, world: World, lock_if_missing: bool) -> tuple[Lock, bytes]:
    if lock_file.exists() or not lock_if_missing:
        lock, content = read_lock(lock_file)
        found = changes(read_requested(spec), lock) if _has_spec(spec) else ()
        if found:
            raise StaleLock(f"{lock_file} does not answer the spec any more", hint="run 'envlock lock'", details=found)
        return lock, content
    requested = read_requested(spec)
    from envlock.cli.locking import lock_now  # the resolver is only needed here

    world.progress.message(f"There is no {lock_file}: locking first")
    lock = lock_now(requested, world=world, spec=spec)
    text = dump_lock(lock)
    write_whole(lock_file, text)
    return lock, text.encode()
