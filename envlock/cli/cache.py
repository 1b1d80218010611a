"""``envlock cache``: what this machine keeps, and how to keep it small."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from envlock.cache import Keeper, Pruned
from envlock.cache import prune as remove_old
from envlock.cli.world import World
from envlock.errors import UsageError
from envlock.formats.amounts import ago_text, parse_duration, parse_size, size_text
from envlock.model.kept import Kept

PRUNE = "prune"
_UNUSED_FOR = "30d"
# Beside artifacts and layers. By name, and not whatever is there: the folder may be set to one that holds other things.
_FOLDERS = ("bases", "metadata", "images", "packed", "pushed")


def cache(
    action: Annotated[
        str | None, typer.Argument(metavar=PRUNE, help="Remove what was not used for long. Default: only show.")
    ] = None,
    *,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Prune until this much is left, like 20GB.")
    ] = None,
    unused_for: Annotated[
        str | None,
        typer.Option(
            "--unused-for", metavar="TIME", help=f"Prune what was not used for so long. Default: {_UNUSED_FOR}"
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Prune all that is not in use.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what this machine keeps, so that it need not be fetched or made again, or prune it.

    What was used in the last ten minutes always stays. Records that wait for MLflow are not part of it.

    Example:  envlock cache prune --max-size 20GB --unused-for 30d
    """
    limits = _limits(max_size, unused_for, everything=everything)
    if action not in (None, PRUNE):
        raise UsageError(f"'envlock cache {action}' is not a command", hint="write 'envlock cache prune'")
    if action is None and limits != _Limits():
        raise UsageError("only pruning has limits", hint="write 'envlock cache prune' with them")
    world = World.here()
    keepers = _keepers(world)
    if action is None:
        _show(world.cache, [item for keeper in keepers for item in keeper.kept()], as_json=as_json)
        return
    if limits == _Limits():
        limits = _Limits(unused_for=parse_duration(_UNUSED_FOR))
    pruned = remove_old(keepers, now=time.time(), most=limits.most, unused_for=limits.unused_for)
    _report(pruned, as_json=as_json)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limits:
    most: int | None = None  # bytes
    unused_for: int | None = None  # seconds


def _limits(max_size: str | None, unused_for: str | None, *, everything: bool) -> _Limits:
    if everything and (max_size is not None or unused_for is not None):
        raise UsageError("--all goes without --max-size and --unused-for")
    return _Limits(
        most=0 if everything else parse_size(max_size) if max_size is not None else None,
        unused_for=parse_duration(unused_for) if unused_for is not None else None,
    )


def _keepers(world: World) -> list[Keeper]:
    """Return everything that may be pruned; what lies in the state folder, or holds it, never is."""
    from envlock.adapters.cache_folder import CacheFolder
    from envlock.layers.cache import LayerCache
    from envlock.layers.store import LayerStore

    folders = [path for name in _FOLDERS if not _touches(path := world.cache / name, world.state)]
    return [
        world.artifacts,
        LayerCache(LayerStore(world.cache / "layers")),
        *(CacheFolder(folder) for folder in folders),
    ]


def _touches(folder: Path, state: Path) -> bool:
    one, other = folder.resolve(), state.resolve()
    return one == other or one in other.parents


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    kind: str
    count: int
    size: int
    used: float


def _rows(items: Iterable[Kept]) -> Iterator[_Row]:
    kinds: dict[str, list[Kept]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item)
    for kind, found in sorted(kinds.items(), key=lambda pair: -sum(item.size for item in pair[1])):
        size = sum(item.size for item in found)
        yield _Row(kind=kind, count=len(found), size=size, used=max(item.used for item in found))


def _show(folder: Path, items: Sequence[Kept], *, as_json: bool) -> None:
    rows, total = list(_rows(items)), sum(item.size for item in items)
    if as_json:
        print(json.dumps({"folder": str(folder), "size": total, "kinds": [_plain(row) for row in rows]}))
        return
    print(f"{folder}: {size_text(total)}")
    now = time.time()
    width = max((len(row.kind) for row in rows), default=0)
    for row in rows:
        used = ago_text(now - row.used)
        print(f"  {row.kind:{width}}  {row.count:>6}  {size_text(row.size):>9}  last used {used}")


def _plain(row: _Row) -> dict[str, Any]:
    used = datetime.fromtimestamp(int(row.used), UTC).isoformat()
    return {"kind": row.kind, "count": row.count, "size": row.size, "last_used": used}


def _report(pruned: Pruned, *, as_json: bool) -> None:
    rows = list(_rows(pruned.removed))
    if as_json:
        answer = {"freed": pruned.freed, "left": pruned.left, "in_use": pruned.in_use}
        print(json.dumps({**answer, "removed": [_plain(row) for row in rows]}))
        return
    for row in rows:
        print(f"  {row.kind}: {row.count} removed, {size_text(row.size)}")
    in_use = f", of which {size_text(pruned.in_use)} may be in use" if pruned.in_use else ""
    print(f"freed {size_text(pruned.freed)}; {size_text(pruned.left)} left{in_use}")
