"""Threads that make layers, and threads that wait for the processes that compile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from envlock.layers.compiler import Compiler, Source

P = ParamSpec("P")
T = TypeVar("T")

# Batches that may wait for a compiler: it has its own bound, and some compile what waits all at once.
_BATCHES = 64


class Stopped(Exception):
    """Work that is not wanted any more."""


class Work:
    """Runs work in the order in which it is submitted; ends all of it when the context ends."""

    def __init__(self, workers: int, compiler: Compiler) -> None:
        self._compiler = compiler
        self._makers = ThreadPoolExecutor(workers, thread_name_prefix="layers")
        self._compilers = ThreadPoolExecutor(_BATCHES, thread_name_prefix="compile")
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._makers.shutdown(cancel_futures=True)
        self._compilers.shutdown(cancel_futures=True)

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run something in a thread. It may wait for what was submitted before it, and only for that."""
        return self._makers.submit(function, *args, **kwargs)

    def compile(self, sources: Sequence[Source]) -> Future[Sequence[bytes | None]]:
        """Compile files."""
        return self._compilers.submit(self._compiler.compile, sources)

    def check(self) -> None:
        """Raise ``Stopped`` where the work is not wanted any more."""
        if self._stopped.is_set():
            raise Stopped
