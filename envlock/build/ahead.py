"""Handing the engine what is there of an image while the rest is still being made.

An engine takes only whole images, unpacks their layers one after the other, on one core, and keeps them by the stack
of layers below. So there are two things to do meanwhile:

* Where much is new: what is there so far, from the bottom, is loaded as an image of its own, which has no name (a
  *stage*). When the image itself is loaded, these layers are there already.
* Where little is new: the layers above it are sent already, as the engine will have to unpack them again. (One that
  keeps layers by themselves has them.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import IO, Self, cast

from envlock.build.workshop import Builder
from envlock.compose import compose
from envlock.errors import DamagedLayer, EngineError, EnvlockError
from envlock.formats.oci_archive import Loadable
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.plan import FINGERPRINT_LABEL, Plan
from envlock.ports import Coming, EngineImage, Loaded, Progress, Supplies

STAGE_LABEL = "envlock.stage"  # its value says when the image was made, in seconds since 1970
_ABANDONED = 3600  # seconds after which another plan's stage is of a build that was killed
_ENOUGH = 64 << 20  # bytes: less is loaded in the end, with the rest
_SETTLED = 0.3  # seconds without a further layer: the next one is being made
_FEW = 3  # layers that are being made: none of them is worth a stage, and all else is there
_FRESH = 45.0  # seconds: what is between here and an engine elsewhere may have given up a silent connection by then
_GRACE = 1.0  # seconds that a build that ends early waits for the engine to notice


class _Stopped(EngineError):
    """The build ends early."""


class Ahead:
    """Takes the layers as they come (``compose.Ahead``), and the image; a context, which ends what it began.

    ``loadable`` says how the engine gets an image; ``before`` finds the image that has the image's name so far. What
    goes wrong ahead of time is found, and told, when the image is loaded.
    """

    def __init__(
        self,
        plan: Plan,
        engine: Builder,
        supplies: Supplies,
        *,
        loadable: Callable[[ComposedImage], Loadable],
        before: Callable[[], EngineImage | None],
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._supplies = replace(supplies, open_layer=self._open)
        self._open_layer = supplies.open_layer
        self._loadable = loadable
        self._before = before
        self._progress = progress
        self._stopped = False
        self._early: _Early | None = None
        self._stages = _Stages(self._load_stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = error is not None
        try:
            if self._early is not None:
                self._early.give_up()
            self._stages.finish()
        finally:
            for stage in self._stages.images:
                with suppress(EnvlockError):
                    self._engine.remove(stage)

    def outlook(self, config: bytes, layers: Sequence[StoredLayer | None]) -> None:
        """Send what lies above the lowest layer that is being made, where little is."""
        missing, lowest = layers.count(None), layers.index(None)
        below = [layer for layer in layers[:lowest] if layer is not None]
        above = [layer for layer in layers[lowest:] if layer is not None]
        if missing > 1 and (missing > _FEW or not above):
            return
        if self._before() is not None:  # layers were lost, and the engine may have them all
            return
        stack = self._loadable(compose(self._plan, below, base_config=config))
        self._early = _Early(
            lambda image: self._engine.load_early(
                Coming(below=stack, above=above, image=image), self._supplies, progress=self._progress
            )
        )

    def reached(self, config: bytes, layers: Sequence[StoredLayer]) -> None:
        """Load what is there so far, where the next layer takes its time."""
        if self._early is None:
            self._stages.reached(config, layers)

    def load(self, image: Loadable) -> Loaded:
        """Have the image in the engine.

        Raises ``EngineError``, ``DamagedLayer`` where a stored layer is not what it was, and what the supplies raise.
        """
        if self._early is not None:
            if self._early.is_alive():
                self._early.give(image)
                with suppress(EnvlockError):
                    _ = self._staged  # asked for while the engine is at work
                return self._early.result()
            self._early.give_up()
        supplies = replace(self._supplies, near=(*self._stages.finish(), *self._near()))
        return self._engine.load(image, supplies, progress=self._progress)

    def forget_abandoned(self) -> None:
        """Remove the stages of builds that were killed. Of one plan there is one build at a time, and this is it."""
        for image in self._staged:
            made = image.labels.get(STAGE_LABEL, "")
            old = made.isdecimal() and int(made) < time.time() - _ABANDONED
            if image.id in self._stages.images or image.tags:
                continue
            if old or image.labels.get(FINGERPRINT_LABEL) == self._plan.fingerprint:
                with suppress(EnvlockError):
                    self._engine.remove(image.id)

    @cached_property
    def _staged(self) -> Sequence[EngineImage]:
        return self._engine.labelled(STAGE_LABEL)

    def _near(self) -> tuple[str, ...]:
        before = self._before()
        return (before.id,) if before is not None else ()

    def _load_stage(self, config: bytes, layers: Sequence[StoredLayer]) -> str | None:
        """Return the stage's ID; None where the engine has nearly all of it."""
        labels = {**self._plan.config.labels, STAGE_LABEL: str(int(time.time()))}
        plan = replace(self._plan, config=replace(self._plan.config, labels=labels))
        stage = self._loadable(compose(plan, layers, base_config=config))
        if self._engine.lacks(stage) < _ENOUGH:
            return None
        supplies = replace(self._supplies, near=tuple(self._stages.images))
        return self._engine.load(stage, supplies, progress=self._progress).id

    def _open(self, layer: StoredLayer) -> IO[bytes]:
        self._go_on()
        return cast("IO[bytes]", _Stoppable(self._open_layer(layer), self._go_on))

    def _go_on(self) -> None:
        if self._stopped:
            raise _Stopped("the build was stopped")


class _Stoppable:
    """A layer's file; ``go_on`` is asked before each block."""

    def __init__(self, file: IO[bytes], go_on: Callable[[], None]) -> None:
        self._file = file
        self._go_on = go_on

    def read(self, size: int = -1) -> bytes:
        self._go_on()
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class _Early:
    """One image on its way in a thread of its own, before it is known as a whole."""

    def __init__(self, load: Callable[[Callable[[], Loadable]], Loaded]) -> None:
        self._load = load
        self._began = time.monotonic()
        self._image: Future[Loadable] = Future()
        self._loaded: Future[Loaded] = Future()
        # A daemon: where the build was interrupted, nobody waits for the engine's answer.
        threading.Thread(target=self._work, name="load early", daemon=True).start()

    def give(self, image: Loadable) -> None:
        """Say what the image is."""
        self._image.set_result(image)

    def is_alive(self) -> bool:
        """Say whether it is as good as sending the image now; raises ``DamagedLayer``, and what is a bug."""
        error = self._loaded.exception() if self._loaded.done() else None
        if error is not None and (isinstance(error, DamagedLayer) or not isinstance(error, EnvlockError)):
            raise error
        return error is None and time.monotonic() - self._began < _FRESH

    def result(self) -> Loaded:
        """Wait until the engine has it; raises as ``Engine.load_early`` does."""
        return self._loaded.result()

    def give_up(self) -> None:
        """There will be no image, or nobody wants it any more."""
        if not self._image.done():
            self._image.set_exception(_Stopped("the build was stopped"))
        with suppress(Exception):
            self._loaded.exception(_GRACE)

    def _work(self) -> None:
        try:
            self._loaded.set_result(self._load(self._image.result))
        except BaseException as error:  # noqa: BLE001 - raised where the build waits
            self._loaded.set_exception(error)


class _Stages:
    """The layers from the bottom, loaded in a thread of its own whenever the next one takes its time."""

    def __init__(self, load: Callable[[bytes, Sequence[StoredLayer]], str | None]) -> None:
        self._load = load
        self.images: list[str] = []
        self._changed = threading.Condition()
        self._config = b""
        self._layers: tuple[StoredLayer, ...] = ()
        self._complete = False
        self._thread: threading.Thread | None = None
        # Not ``join``: where Ctrl-C ends that, Python 3.11 takes the thread for ended.
        self._through = threading.Event()
        self._error: Exception | None = None

    def reached(self, config: bytes, layers: Sequence[StoredLayer]) -> None:
        """Take note of what is there so far."""
        with self._changed:
            self._config, self._layers = config, tuple(layers)
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="load ahead", daemon=True)
            self._thread.start()

    def finish(self) -> tuple[str, ...]:
        """Wait for what is under way, begin nothing more, and return the images that have the first layers."""
        with self._changed:
            self._complete = True
            self._changed.notify()
        if self._thread is not None:
            self._through.wait()
        if self._error is not None:
            raise self._error
        return tuple(self.images)

    def _work(self) -> None:
        loaded = 0
        try:
            while layers := self._settled(loaded):
                loaded = len(layers)
                stage = self._load(self._config, layers)
                if stage is not None:
                    self.images.append(stage)
        except EnvlockError:
            pass
        except Exception as error:  # noqa: BLE001 - a bug, raised where the build waits
            self._error = error
        finally:
            self._through.set()

    def _settled(self, loaded: int) -> tuple[StoredLayer, ...]:
        """Wait until there are more layers than were loaded, and the next one takes its time."""
        with self._changed:
            while not self._complete:
                before = self._layers
                moved = self._changed.wait(_SETTLED)
                size = sum(layer.size for layer in before[loaded:])
                if not moved and before is self._layers and size >= _ENOUGH:
                    return before
        return ()
