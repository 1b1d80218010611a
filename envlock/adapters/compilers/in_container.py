"""Compiling in a container of the base, with its own interpreter."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

from envlock.adapters.compilers.wire import (
    ENVIRONMENT,
    LENGTH,
    OPTIONS,
    check_greeting,
    packed,
    unpacked,
    worker_source,
)
from envlock.errors import WorldError
from envlock.layers.compiler import Source
from envlock.layers.target import Target
from envlock.ports import Container

_MOST = 4 << 20  # bytes of sources in one run: they are in memory here several times over
_FOLDER = "/tmp/envlock-compile"  # noqa: S108 - in a container of our own


class ContainerCompiler:
    """Implements ``layers.compiler.Compiler``.

    One run in the container compiles a batch on all its cores. Starting one costs more than compiling a small batch:
    batches that come while another is under way wait and go together.

    ``container`` is asked for when the first batch comes.
    """

    def __init__(self, container: Callable[[], Container], python: str, target: Target) -> None:
        self._open = container
        self._container: Container | None = None
        self._python = python
        self._target = target
        self._numbers = itertools.count()
        self._running = threading.Lock()
        self._gate = threading.Lock()
        self._waiting: list[_Batch] = []

    def compile(self, sources: Sequence[Source]) -> Sequence[bytes | None]:
        """Compile files."""
        batch = _Batch(sources)
        with self._gate:
            self._waiting.append(batch)
        with self._running:
            if batch.results is None and batch.error is None:
                self._run(self._next(batch))
        if batch.error is not None:
            raise batch.error
        return batch.results or []

    def _next(self, batch: _Batch) -> list[_Batch]:
        """Take this batch and as many others as go with it."""
        with self._gate:
            self._waiting.remove(batch)
            taken, size = [batch], batch.size
            while self._waiting and size < _MOST:
                taken.append(self._waiting.pop(0))
                size += taken[-1].size
        return taken

    def _run(self, batches: Sequence[_Batch]) -> None:
        try:
            results = iter(self._compiled([source for batch in batches for source in batch.sources]))
        except BaseException as error:
            for batch in batches:
                batch.error = error
            raise
        for batch in batches:
            batch.results = list(itertools.islice(results, len(batch.sources)))

    def _compiled(self, sources: Sequence[Source]) -> list[bytes | None]:
        if not sources:
            return []
        program, data = f"{_FOLDER}/worker.py", f"{_FOLDER}/batch"
        files: dict[str, bytes] = {data: packed(sources)}
        if self._container is None:
            self._container = self._open()
            files[program] = worker_source().encode()
        self._container.put(files)
        done = self._container.run([self._python, *OPTIONS, program, data], env=ENVIRONMENT)
        end = done.stdout.find(b"\n") + 1
        greeting, answer = done.stdout[:end], memoryview(done.stdout)[end:]
        if done.exit_code:
            raise WorldError(
                f"compiling in a container of the base failed with exit code {done.exit_code}",
                details=done.stderr.decode(errors="replace").splitlines()[-10:],
            )
        check_greeting(greeting, self._target)
        if len(answer) < LENGTH.size or LENGTH.unpack_from(answer)[0] != len(answer) - LENGTH.size:
            raise WorldError("the base's interpreter did not answer in full")
        return unpacked(answer[LENGTH.size :], len(sources))


class _Batch:
    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.size = sum(len(content) for _, content in sources)
        self.results: list[bytes | None] | None = None
        self.error: BaseException | None = None
