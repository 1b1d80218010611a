"""Which wheel goes in which layer: a rule that looks at the lock alone, so that everyone gets the same layers.

* A large wheel has a layer of its own; the largest are at the bottom, because an engine that stacks layers unpacks
  everything above a changed one again.
* Small wheels share layers. Which one depends on a wheel's own name and order of magnitude only, so that changing,
  adding or removing a pin leaves all other wheels where they are; the smallest wheels, of which there are most, are on
  top, where a change costs least.
* There are never more than ``MOST_LAYERS`` layers: what counts as large grows with the list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envlock.model.lock import Wheel

_LARGE = 2 << 20  # bytes of a wheel, where the list is of ordinary size
_MOST_ALONE = 40  # with torch for CUDA a training environment has about 30
# Shared layers by the least size of their wheels, and how many of each there are. An engine needs about 50 ms for a
# layer, and 0.1 ms for a file in it: more and smaller layers would cost it more than they save.
_SHARED = ((_LARGE, 4), (1 << 20, 2), (512 << 10, 2), (256 << 10, 2), (128 << 10, 2), (64 << 10, 1), (0, 1))
MOST_LAYERS = _MOST_ALONE + sum(count for _, count in _SHARED)

_NAMED = 1  # how many packages a title names in full


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelGroup:
    """The wheels of one layer, by name."""

    wheels: tuple[Wheel, ...]
    alone: bool  # one large wheel, by rule and not by chance

    @property
    def title(self) -> str:
        """Return what people read in the image's history."""
        if len(self.wheels) <= _NAMED:
            return " ".join(f"{wheel.name} {wheel.version}" for wheel in self.wheels)
        return f"{len(self.wheels)} packages: {self.wheels[0].name} … {self.wheels[-1].name}"

    @property
    def size(self) -> int:
        """Return the size of the wheels in bytes."""
        return sum(wheel.size for wheel in self.wheels)


def group_wheels(wheels: Sequence[Wheel]) -> tuple[WheelGroup, ...]:
    """Return the layers' wheels, bottom layer first."""
    large = _large(wheels)
    alone = sorted((wheel for wheel in wheels if wheel.size >= large), key=_rank)
    shared: dict[tuple[int, int], list[Wheel]] = {}
    for wheel in wheels:
        if wheel.size < large:
            shared.setdefault(_place(wheel), []).append(wheel)
    return (
        *(WheelGroup(wheels=(wheel,), alone=True) for wheel in alone),
        *(WheelGroup(wheels=_by_name(shared[place]), alone=False) for place in sorted(shared)),
    )


def _large(wheels: Sequence[Wheel]) -> int:
    """Return from which size on a wheel is alone: the least power of two times ``_LARGE`` that keeps to the bound."""
    large = _LARGE
    while sum(wheel.size >= large for wheel in wheels) > _MOST_ALONE:
        large *= 2
    return large


def _rank(wheel: Wheel) -> tuple[int, str]:
    """Order large wheels by order of magnitude, then by name: a new version seldom moves a layer."""
    return -wheel.size.bit_length(), wheel.name


def _place(wheel: Wheel) -> tuple[int, int]:
    """Return a small wheel's shared layer, as its place in the pile."""
    for height, (least, count) in enumerate(_SHARED):
        if wheel.size >= least:
            digest = hashlib.sha256(wheel.name.encode()).digest()
            return height, int.from_bytes(digest[:4], "big") % count
    raise AssertionError(wheel.size)


def _by_name(wheels: Iterable[Wheel]) -> tuple[Wheel, ...]:
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))
