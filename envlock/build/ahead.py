"""Loading the first layers of an image into the engine while the last ones are still being made.

An engine unpacks layers one after the other, on one core, and takes only whole images. So what is there so far is
loaded as an image of its own, which has no name; when the image itself is loaded, these layers are there already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import IO, Self

from envlock.build.workshop import Builder
from envlock.compose import compose
from envlock.errors import EngineError, EnvlockError
from envlock.formats.oci_archive import Loadable
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.plan import FINGERPRINT_LABEL, Plan
from envlock.ports import Progress, Supplies

STAGE_LABEL = "envlock.stage"  # its value says when the image was made, in seconds since 1970
_ABANDONED = 3600  # seconds after which another plan's stage is of a build that was killed
_ENOUGH = 64 << 20  # bytes: less is loaded in the end, with the rest
_SETTLED = 0.3  # seconds without a further layer: the next one is being made


class _Stopped(EngineError):
    """The build ends early."""


class Ahead:
    """Takes the layers as they come (``compose.Ahead``); a context, which ends what it began.

    ``loadable`` says how the engine gets an image. What goes wrong here is found, and told, when the image is loaded.
    """

    def __init__(
        self,
        plan: Plan,
        engine: Builder,
        supplies: Supplies,
        *,
        loadable: Callable[[ComposedImage], Loadable],
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._supplies = replace(supplies, open_layer=self._open)
        self._open_layer = supplies.open_layer
        self._loadable = loadable
        self._progress = progress
        self._changed = threading.Condition()
        self._config = b""
        self._layers: tuple[StoredLayer, ...] = ()
        self._complete = self._stopped = False
        self._thread: threading.Thread | None = None
        # Not ``join``: where Ctrl-C ends that, Python 3.11 takes the thread for ended.
        self._through = threading.Event()
        self._stages: list[str] = []
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = error is not None
        try:
            self.finish()
        finally:
            for stage in self._stages:
                with suppress(EnvlockError):
                    self._engine.remove(stage)

    def __call__(self, config: bytes, layers: Sequence[StoredLayer]) -> None:
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
        return tuple(self._stages)

    def forget_abandoned(self) -> None:
        """Remove the stages of builds that were killed. Of one plan there is one build at a time, and this is it."""
        for image in self._engine.labelled(STAGE_LABEL):
            made = image.labels.get(STAGE_LABEL, "")
            old = made.isdecimal() and int(made) < time.time() - _ABANDONED
            if image.id in self._stages or image.tags:
                continue
            if old or image.labels.get(FINGERPRINT_LABEL) == self._plan.fingerprint:
                with suppress(EnvlockError):
                    self._engine.remove(image.id)

    def _work(self) -> None:
        loaded = 0
        try:
            while layers := self._settled(loaded):
                loaded = len(layers)
                self._load(layers)
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

    def _load(self, layers: tuple[StoredLayer, ...]) -> None:
        labels = {**self._plan.config.labels, STAGE_LABEL: str(int(time.time()))}
        plan = replace(self._plan, config=replace(self._plan.config, labels=labels))
        stage = self._loadable(compose(plan, layers, base_config=self._config))
        if self._engine.lacks(stage) < _ENOUGH:
            return
        supplies = replace(self._supplies, near=tuple(self._stages))
        self._stages.append(self._engine.load(stage, supplies, progress=self._progress).id)

    def _open(self, layer: StoredLayer) -> IO[bytes]:
        if self._stopped:
            raise _Stopped("the build was stopped")
        return self._open_layer(layer)
