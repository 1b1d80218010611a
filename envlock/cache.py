"""``envlock cache``: what this machine keeps, and keeping it small."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from envlock.model.kept import Kept

# What was wanted this recently may be in use by a build that runs now.
IN_USE = 600  # seconds


class Keeper(Protocol):
    """A place of things that can be had again, shared by any number of processes."""

    def kept(self) -> Iterable[Kept]:
        """Return everything there; raises ``StorageError``."""

    def remove(self, item: Kept, *, since: float) -> bool:
        """Remove what was not wanted after ``since`` (seconds since the epoch), and say whether it is gone.

        Looking and removing is one step: what is wanted in that moment is either still there, or found missing at once.
        Raises ``StorageError``.
        """

    def tidy(self) -> None:
        """Remove what processes left unfinished that ended; raises ``StorageError``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What pruning came to."""

    removed: tuple[Kept, ...]
    left: int  # bytes
    in_use: int  # bytes that should have gone, and may be in use

    @property
    def freed(self) -> int:
        """Return the bytes that were removed."""
        return sum(item.size for item in self.removed)


def prune(keepers: Sequence[Keeper], *, now: float, most: int | None = None, unused_for: float | None = None) -> Pruned:
    """Remove what was not wanted for ``unused_for`` seconds, then the longest unwanted until ``most`` bytes are left.

    What was wanted in the last ten minutes stays: a build may need it. ``now`` is in seconds since the epoch.
    """
    items = sorted(
        ((item, keeper) for keeper in keepers for item in keeper.kept()),
        key=lambda pair: (pair[0].used, pair[0].kind, pair[0].key),
    )
    left = sum(item.size for item, _ in items)
    removed, in_use = [], 0
    for item, keeper in items:
        old = unused_for is not None and now - item.used > unused_for
        over = most is not None and left > most
        if not (old or over):
            continue
        if now - item.used > IN_USE and keeper.remove(item, since=now - IN_USE):
            removed.append(item)
            left -= item.size
        else:
            in_use += item.size
    for keeper in keepers:
        keeper.tidy()
    return Pruned(removed=tuple(removed), left=left, in_use=in_use)
