"""Things that take a moment to start and to end, and may not be needed: a container, an interpreter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Generic, TypeVar

from envlock.errors import EnvlockError, WorldError
from envlock.layers.compiler import Compiler, Source

T = TypeVar("T")


class Lazy(Generic[T]):
    """Something that starts when it is first needed, or ahead of that in the background; ``close`` ends it.

    ``start`` may do all it takes, like pulling an image: that happens in the thread that needs the thing.
    ``start_early`` gives None where it would take more than a moment. Safe to use from several threads.
    """

    def __init__(
        self,
        start: Callable[[], AbstractContextManager[T]],
        *,
        start_early: Callable[[], AbstractContextManager[T] | None] = lambda: None,
    ) -> None:
        self._start = start
        self._start_early = start_early
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._found: T | None = None
        self._early: _Early[T] | None = None
        self._endings: list[_Ending[T]] = []
        self._closed = False

    def warm(self) -> None:
        """Start it in the background. What fails there is forgotten: whoever needs the thing hears it then."""
        with self._lock:
            if self._found is None and self._early is None and not self._closed:
                self._early = _Early(self._start_early)

    def get(self) -> T:
        """Return it, started; raises what starting raises, and ``WorldError`` after ``close``."""
        with self._lock:
            if self._closed:  # by Ctrl-C, while other threads go on: they must not start another one
                raise WorldError("the base is not open any more")
            if self._found is None:
                early, self._early = self._early, None
                found = early.take(self._stack) if early is not None else None
                self._found = found if found is not None else self._stack.enter_context(self._start())
            return self._found

    def release(self) -> None:
        """End it in the background, if it was started: it is not needed for now. ``get`` starts another one."""
        with self._lock:
            if self._found is None and self._early is None:
                return
            stack, self._stack, self._found = self._stack.pop_all(), ExitStack(), None
            early, self._early = self._early, None
            self._endings.append(_Ending(stack, early))

    def close(self) -> None:
        """End it, whatever state it is in."""
        with self._lock:
            early, self._early = self._early, None
            self._found, self._closed = None, True
            with ExitStack() as endings:
                for ending in self._endings:
                    endings.callback(ending.wait)
                with self._stack:
                    if early is not None:
                        early.take(self._stack)


class _Ending(Generic[T]):
    """An end in the background; what fails there is not told, as all that the thing was needed for is done."""

    def __init__(self, stack: ExitStack, early: _Early[T] | None) -> None:
        self._stack = stack
        self._early = early
        self._through = threading.Event()  # see ``_Early``, also for the thread
        threading.Thread(target=self._run, name="envlock-end").start()

    def wait(self) -> None:
        self._through.wait()

    def _run(self) -> None:
        try:
            with suppress(EnvlockError), self._stack:
                if self._early is not None:
                    self._early.take(self._stack)
        finally:
            self._through.set()


class _Early(Generic[T]):
    """A start in the background."""

    def __init__(self, start: Callable[[], AbstractContextManager[T] | None]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._found: T | None = None
        self._abandoned = False
        # Not ``join``: where Ctrl-C ends that, Python 3.11 forgets the thread, and does not wait for it at the exit.
        self._through = threading.Event()
        # Not a daemon: a process that ends while a container starts still takes it away again.
        self._thread = threading.Thread(target=self._run, name="envlock-start")
        self._thread.start()

    def take(self, stack: ExitStack) -> T | None:
        """Wait, and hand over what came of it: that ends with ``stack`` then."""
        try:
            self._through.wait()
        except BaseException:
            self._abandon()
            raise
        stack.push(self._stack.pop_all())
        return self._found

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
        found = None
        with suppress(EnvlockError):
            context = self._start()
            found = stack.enter_context(context) if context is not None else None
        with self._lock:
            if not self._abandoned:
                self._stack, self._found = stack.pop_all(), found
        with suppress(EnvlockError):
            stack.close()


class LazyCompiler:
    """Implements ``layers.compiler.Compiler`` with one that is asked for when there is something to compile."""

    def __init__(self, get: Callable[[], Compiler]) -> None:
        self._get = get
        self._closed = False

    def compile(self, sources: Sequence[Source]) -> Sequence[bytes | None]:
        """Compile files; raises ``WorldError`` after ``close``."""
        if self._closed:  # by Ctrl-C, while other threads go on: they must not start another one
            raise WorldError("nothing is compiled any more")
        return self._get().compile(sources)

    def close(self) -> None:
        """Ask for none any more."""
        self._closed = True
