"""``envlock lock``: resolve the spec and write the lock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from packaging.utils import canonicalize_name

from envlock.cli.files import (
    LOCK,
    SPEC,
    LockOption,
    SpecOption,
    read_lock,
    read_lock_if_any,
    read_requested,
    write_whole,
)
from envlock.cli.world import World
from envlock.errors import UsageError
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.inputs import changes
from envlock.model.lock import Lock
from envlock.model.spec import Requested


def lock(
    *,
    spec: SpecOption = Path(SPEC),
    lock_file: LockOption = Path(LOCK),
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the lock answers the spec: 0 yes, 1 no. No network.")
    ] = False,
    upgrade: Annotated[bool, typer.Option("--upgrade", "-U", help="Take the newest of everything.")] = False,
    upgrade_package: Annotated[
        list[str] | None,
        typer.Option("--upgrade-package", "-P", metavar="NAME", help="Take the newest of this package. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Resolve and pin everything that the spec asks for, for the base image, into envlock.lock.

    What is locked already stays as it is, unless the spec or an option says otherwise.

    Example:  envlock lock --upgrade-package torch
    """
    if check and (upgrade or upgrade_package):
        raise UsageError("--check only looks: it goes without --upgrade and --upgrade-package")
    requested = read_requested(spec)
    if check:
        _check(requested, lock_file, as_json=as_json)
        return
    from envlock.cli.locking import lock_now  # which --check has no need of

    # a Debian name ("libcudart11.0") is not a normalized Python name: either may be meant
    packages = frozenset(upgrade_package or ()) | {canonicalize_name(name) for name in upgrade_package or ()}
    world = World.here()
    previous = read_lock_if_any(lock_file)
    _check_known(upgrade_package or [], previous)
    result = lock_now(requested, previous, world=world, spec=spec, everything=upgrade, packages=packages)
    text = dump_lock(result)
    unchanged = lock_file.exists() and lock_file.read_text(encoding="utf-8") == text
    if not unchanged:
        write_whole(lock_file, text)
    _report(result, lock_file, unchanged=unchanged, as_json=as_json)


def _check(requested: Requested, lock_file: Path, *, as_json: bool) -> None:
    locked, _ = read_lock(lock_file)
    found = changes(requested, locked)
    if as_json:
        print(json.dumps({"current": not found, "changes": list(found), "fingerprint": fingerprint(locked)}))
    else:
        print(f"{lock_file} answers the spec" if not found else f"{lock_file} does not answer the spec any more")
        for line in found:
            print(f"  {line}")
    if found:
        raise typer.Exit(1)


def _check_known(names: list[str], previous: Lock | None) -> None:
    if previous is None:
        return
    known = {wheel.name for wheel in previous.wheels} | {deb.name for deb in previous.debs}
    for name in names:
        if name not in known and canonicalize_name(name) not in known:
            raise UsageError(
                f"--upgrade-package {name}: the lock has no such package", hint="see its packages with 'envlock show'"
            )


def _report(result: Lock, lock_file: Path, *, unchanged: bool, as_json: bool) -> None:
    name = fingerprint(result)
    if as_json:
        print(
            json.dumps(
                {
                    "lock": str(lock_file),
                    "fingerprint": name,
                    "changed": not unchanged,
                    "base": result.base.pinned,
                    "python": result.base.python.version,
                    "cuda": result.cuda.version if result.cuda else None,
                    "wheels": len(result.wheels),
                    "debs": len(result.debs),
                }
            )
        )
        return
    print(f"{lock_file}: {'unchanged' if unchanged else 'written'}, fingerprint {name[:12]}")
    print(f"  base    {result.base.reference} ({result.base.os.pretty_name})")
    print(f"  python  {result.base.python.version}, {_packages(len(result.wheels))}")
    print(f"  apt     {_packages(len(result.debs))}")
    if result.cuda:
        print(f"  cuda    {result.cuda.version}, driver {result.cuda.min_driver} or newer")


def _packages(count: int) -> str:
    return "1 package" if count == 1 else f"{count} packages"
