"""A place where another machine left layers that it made: asked before a layer is made here, and never relied on.

What comes is held against what the place itself says of it (hash, size). That the content is what the *key* promises
nobody can check without making the layer again, so whoever may write there decides what is in the images built from it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, BinaryIO, Protocol, TypeVar

from envlock.errors import EnvlockError, HashMismatch
from envlock.layers.hashed import Hashed
from envlock.model.layers import OfferedLayer

T = TypeVar("T")

# Wrong answers after which a remote is not asked any more.
_PATIENCE = 5


class Remote(Protocol):
    """Layers and notes by content key (hex), in some place that several machines reach; for several threads at once.

    Each method raises ``HashMismatch`` for one entry that is not what it should be, and any other ``EnvlockError``
    where the place itself does not work.
    """

    @property
    def name(self) -> str:
        """Return what the place is called, for messages."""

    def find(self, key: str) -> OfferedLayer | None:
        """Return what the place says of a layer, well-formed and of sensible size, or None where it has none."""

    def blocks(self, offered: OfferedLayer) -> Generator[bytes, None, None]:
        """Yield the layer's tar, uncompressed, in blocks that are not empty."""

    def arrived(self, offered: OfferedLayer) -> None:
        """Be told that a layer came, and is what it was said to be."""

    def note(self, key: str) -> Any:
        """Return a note (JSON, whatever it holds), or None where there is none."""


class CarefulRemote:
    """A remote that never fails a build: it is told (``warn``) what does not come, and that is made here.

    A place that does not work is told of once, and not asked again; a single wrong answer is named.
    """

    def __init__(self, remote: Remote, *, warn: Callable[[str], None]) -> None:
        self._remote = remote
        self._warn = warn
        self._lock = threading.Lock()
        self._refused = 0
        self._given_up = False

    def find(self, key: str) -> OfferedLayer | None:
        """Return what the remote says of a layer, or None."""
        return self._asked(lambda: self._remote.find(key), f"layer {key[:12]}")

    def note(self, key: str, well_formed: Callable[[Any], bool]) -> Any:
        """Return a note that is well-formed, or None."""
        note = self._asked(lambda: self._remote.note(key), f"note {key[:12]}")
        if note is None or well_formed(note):
            return note
        self._refuse(f"note {key[:12]}", "it is not what such a note holds")
        return None

    def copy(self, offered: OfferedLayer, file: BinaryIO, stopped: Callable[[], bool]) -> bool:
        """Write a layer's tar to a file, and say whether it is now there, whole and right.

        Ends early where ``stopped`` says so. What writing raises (``OSError``) is passed on.
        """
        layer, tar = offered.layer, Hashed(file)
        with closing(self._remote.blocks(offered)) as blocks:
            while not stopped():
                block = self._guarded(lambda: next(blocks, b""), layer.title)
                if block is None:
                    return False
                if not block:
                    break
                if tar.size + len(block) > layer.size:
                    self._refuse(layer.title, f"it is larger than the {layer.size} bytes that it says")
                    return False
                tar.write(block)
            else:
                return False
        if (tar.diff_id, tar.size) != (layer.diff_id, layer.size):
            self._refuse(layer.title, f"expected {layer.diff_id}, found {tar.diff_id}, {tar.size} bytes")
            return False
        self._guarded(lambda: self._remote.arrived(offered), layer.title)
        return True

    def _asked(self, ask: Callable[[], T], what: str) -> T | None:
        return None if self._given_up else self._guarded(ask, what)

    def _guarded(self, ask: Callable[[], T], what: str) -> T | None:
        """Return what was asked for; None, and told, where that failed."""
        try:
            return ask()
        except HashMismatch as error:
            self._refuse(what, error.message)
        except EnvlockError as error:
            self._give_up(error.message)
        except (OSError, ValueError, RecursionError) as error:  # whatever nonsense an answer of strangers leads to
            self._give_up(f"{type(error).__name__}: {error}")
        return None

    def _refuse(self, what: str, why: str) -> None:
        with self._lock:
            self._refused += 1
            given_up = self._given_up
        if not given_up:
            self._warn(f"{self._remote.name}: {what} is refused, and made here: {why}")
        if self._refused >= _PATIENCE:
            self._give_up("too much of it is wrong")

    def _give_up(self, why: str) -> None:
        with self._lock:
            told, self._given_up = self._given_up, True
        if not told:
            self._warn(f"{self._remote.name} gives no layers, they are made here: {why}")
