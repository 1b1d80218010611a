"""Things that take a moment to start, and may not be needed: a container, an interpreter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Self

from envlock.errors import EnvlockError, WorldError
from envlock.layers.compiler import Compiler, Source
from envlock.ports import Container

Start = Callable[[], AbstractContextManager[Container]]


class LazyContainer:
    """A container that starts when it is first needed, or ahead of that in the background; ``close`` ends it.

    ``start`` may do all it takes, like pulling an image: that happens in the thread that needs the container, where
    Ctrl-C ends it. ``start_early`` gives None where it would take more than a moment. Safe to use from several threads.
    """

    def __init__(self, start: Start, *, start_early: Callable[[], AbstractContextManager[Container] | None]) -> None:
        self._start = start
        self._start_early = start_early
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._container: Container | None = None
        self._early: _Early | None = None
        self._closed = False

    def warm(self) -> None:
        """Start it in the background. What fails there is forgotten: whoever needs the container hears it then."""
        with self._lock:
            if self._container is None and self._early is None and not self._closed:
                self._early = _Early(self._start_early)

    def get(self) -> Container:
        """Return the container, started; raises what starting raises, and ``WorldError`` after ``close``."""
        with self._lock:
            if self._closed:  # by Ctrl-C, while other threads go on: they must not start another one
                raise WorldError("the base is not open any more")
            if self._container is None:
                early, self._early = self._early, None
                self._container = (early and early.take(self._stack)) or self._stack.enter_context(self._start())
            return self._container

    def close(self) -> None:
        """End it, whatever state it is in."""
        with self._lock:
            early, self._early = self._early, None
            self._container, self._closed = None, True
            with self._stack:
                if early is not None:
                    early.take(self._stack)


class _Early:
    """A start in the background."""

    def __init__(self, start: Callable[[], AbstractContextManager[Container] | None]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._container: Container | None = None
        self._abandoned = False
        # Not ``join``: where Ctrl-C ends that, Python 3.11 forgets the thread, and does not wait for it at the exit.
        self._through = threading.Event()
        # Not a daemon: a process that ends while a container starts still takes it away again.
        self._thread = threading.Thread(target=self._run, name="envlock-container")
        self._thread.start()

    def take(self, stack: ExitStack) -> Container | None:
        """Wait, and hand over what came of it: the container ends with ``stack`` then."""
        try:
            self._through.wait()
        except BaseException:
            self._abandon()
            raise
        stack.push(self._stack.pop_all())
        return self._container

    def _abandon(self) -> None:
        """Leave it to the thread to end what it started; or do so, where it is through."""
        with self._lock:
            self._abandoned = True
            stack = self._stack.pop_all()
        stack.close()

    def _run(self) -> None:
        try:
            self._open()
        finally:
            self._through.set()

    def _open(self) -> None:
        stack = ExitStack()
        container = None
        with suppress(EnvlockError):
            context = self._start()
            container = stack.enter_context(context) if context is not None else None
        with self._lock:
            if not self._abandoned:
                self._stack, self._container = stack.pop_all(), container
        with suppress(EnvlockError):
            stack.close()


class LazyCompiler:
    """Implements ``layers.compiler.Compiler``: looks for an interpreter when there is something to compile.

    A context manager; what ``choose`` enters into the stack lives as long as that.
    """

    def __init__(self, choose: Callable[[ExitStack], Compiler]) -> None:
        self._choose = choose
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._chosen: Compiler | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def compile(self, sources: Sequence[Source]) -> Sequence[bytes | None]:
        """Compile files."""
        with self._lock:
            if self._chosen is None:
                self._chosen = self._choose(self._stack)
        return self._chosen.compile(sources)
