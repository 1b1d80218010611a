"""Compiling with interpreters that run as processes of this machine.

The interpreter is one of this machine that has exactly the target's version (``local_interpreter``), or the target's
own, run from an unpacked root file system (``unpacked_interpreter``)::

    argv, environment = unpacked_interpreter(root, "/usr/bin/python3")
    ProcessCompiler(argv, target, workers=2, environment=environment)
"""

from __future__ import annotations

import queue
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from envlock.adapters.compilers.wire import (
    ENVIRONMENT,
    LENGTH,
    OPTIONS,
    WrongInterpreter,
    check_greeting,
    packed,
    unpacked,
    worker_source,
)
from envlock.errors import WorldError
from envlock.layers.compiler import Source
from envlock.layers.target import Target


class ProcessCompiler:
    """Implements ``layers.compiler.Compiler`` with up to ``workers`` processes, started when they are needed.

    A context manager: the processes end with it (or with this process, when their stdin closes).
    """

    def __init__(
        self, argv: Sequence[str], target: Target, *, workers: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self._environment = ENVIRONMENT | dict(environment or {})
        self._argv = (*argv, *OPTIONS, "-c", worker_source())
        self._target = target
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)
        self._workers = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self._workers):
            worker = self._idle.get()
            if worker is not None:
                worker.end()

    def compile(self, sources: Sequence[Source]) -> Sequence[bytes | None]:
        """Compile a batch in one process."""
        worker = self._idle.get()
        try:
            worker = worker or _Worker(self._argv, self._target, self._environment)
            return worker.compile(sources)
        except BaseException:
            if worker is not None:
                worker.end()
                worker = None
            raise
        finally:
            self._idle.put(worker)

    def probe(self) -> None:
        """Raise ``WorldError`` where the interpreter cannot be started or is another one than the target's."""
        self.compile([])


class _Worker:
    def __init__(self, argv: Sequence[str], target: Target, environment: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(environment)
            )
        except OSError as error:
            raise WorldError(f"{argv[0]}: {error.strerror}") from error
        assert self._process.stdin is not None  # noqa: S101 - for mypy: both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        try:
            check_greeting(self._stdout.readline(), target)
        except BaseException:
            self.end()
            raise

    def compile(self, sources: Sequence[Source]) -> list[bytes | None]:
        try:
            self._stdin.write(packed(sources))
            self._stdin.flush()
            head = self._stdout.read(LENGTH.size)
            length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else -1
            answer = self._stdout.read(length) if length >= 0 else b""
        except OSError as error:
            raise WorldError("the interpreter that compiles ended while it was in use") from error
        if len(answer) != length:
            raise WorldError(
                "the interpreter that compiles ended while it was in use",
                hint="was memory short? run the command again",
            )
        return unpacked(answer, len(sources))

    def end(self) -> None:
        with suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()


def local_interpreter(target: Target, *, candidates: Sequence[str] = ()) -> str | None:
    """Return an interpreter of this machine that is exactly the target's version, or None.

    ``candidates`` are tried first; then ``pythonX.Y`` and ``python3`` on the PATH.
    """
    for name in (*candidates, f"python{target.minor}", "python3"):
        path = shutil.which(name)
        if path is None:
            continue
        with ProcessCompiler((path,), target, workers=1) as compiler, suppress(WrongInterpreter, WorldError):
            compiler.probe()
            return path
    return None
