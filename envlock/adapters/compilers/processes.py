"""Compiling with an interpreter that runs as a process of this machine.

The interpreter is one of this machine that has exactly the target's version, or the target's own, run from an
unpacked root file system (``unpacked_interpreter``)::

    argv, environment = unpacked_interpreter(root, "/usr/bin/python3")
    with process_compiler(argv, target, environment=environment) as compiler:
        ...
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from envlock.adapters.compilers.piped import ALL_CORES, PipedCompiler, worker_argv
from envlock.adapters.compilers.wire import ENVIRONMENT, OPTIONS, WrongInterpreter, greeted, worker_source
from envlock.errors import WorldError
from envlock.layers.target import Target

_PATIENCE = 5  # seconds that a process has for ending
_STARTING = 20  # seconds


@contextmanager
def process_compiler(
    argv: Sequence[str], target: Target, *, cores: int = ALL_CORES, environment: Mapping[str, str] | None = None
) -> Iterator[PipedCompiler]:
    """Give a compiler; its processes end with the context, or with this process.

    Raises ``WorldError`` where it cannot be started, and ``WrongInterpreter`` where it is not the target's version.
    """
    try:
        process = subprocess.Popen(
            worker_argv(argv, cores),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT | dict(environment or {}),
        )
    except OSError as error:
        raise WorldError(f"{argv[0]}: {error.strerror}") from error
    assert process.stdin is not None  # noqa: S101 - for mypy: both are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        with PipedCompiler(_ProcessPipe(process.stdin, process.stdout), target) as compiler:
            yield compiler
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class _ProcessPipe:
    """Implements ``ports.Pipe``."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._stdin = stdin
        self._stdout = stdout

    def send(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def receive(self, size: int) -> bytes:
        return self._stdout.read(size)

    def complaints(self) -> list[str]:
        return []


def interpreter_version(path: str) -> str:
    """Return the version of an interpreter (of CPython, "3.11.2"), or nothing where it is none."""
    argv = [path, *OPTIONS, "-c", worker_source()]
    with suppress(OSError, subprocess.SubprocessError, WrongInterpreter):
        done = subprocess.run(
            argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT, timeout=_STARTING
        )
        return str(greeted(done.stdout)["version"])
    return ""
