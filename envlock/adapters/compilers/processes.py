"""Compiling with an interpreter that runs as a process of this machine.

The interpreter is one of this machine that has exactly the target's version, or the target's own, run from an
unpacked root file system (``unpacked_interpreter``)::

    argv, environment = unpacked_interpreter(root, "/usr/bin/python3")
    with process_compiler(argv, target, environment=environment) as compiler:
        ...
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from envlock.adapters.compilers.piped import ALL_CORES, PipedCompiler, worker_argv
from envlock.adapters.compilers.wire import ENVIRONMENT, OPTIONS, WrongInterpreter, greeted, worker_source
from envlock.errors import WorldError
from envlock.layers.target import Target

_PATIENCE = 5  # seconds that a process has for ending
_STARTING = 20  # seconds
_ANYWHERE = "/"  # an interpreter also looks for modules where it is started: not in the user's project


@contextmanager
def process_compiler(
    argv: Sequence[str], target: Target, *, cores: int = ALL_CORES, environment: Mapping[str, str] | None = None
) -> Iterator[PipedCompiler]:
    """Give a compiler; its processes end with the context, or with this process. ``argv`` has absolute paths.

    Raises ``WorldError`` where it cannot be started, and ``WrongInterpreter`` where it is not the target's version.
    """
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                worker_argv(argv, cores),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=ENVIRONMENT | dict(environment or {}),
                cwd=_ANYWHERE,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )
        except OSError as error:
            raise WorldError(f"{argv[0]}: {error.strerror}") from error
        pipe = _ProcessPipe(process, stderr)
        try:
            with PipedCompiler(pipe, target) as compiler:
                yield compiler
        finally:
            pipe.end()


class _ProcessPipe:
    """Implements ``ports.Pipe``."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        assert process.stdin is not None  # noqa: S101 - for mypy: both are pipes
        assert process.stdout is not None  # noqa: S101
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, stderr

    def send(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def receive(self, size: int) -> bytes:
        return self._stdout.read(size)

    def complaints(self) -> list[str]:
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), size, 0).decode(errors="replace").splitlines()

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        with suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.close()
            self._process.wait()
        self._stdout.close()


def interpreter_version(path: str) -> str:
    """Return the version of an interpreter (of CPython, "3.11.2"), or nothing where it is none."""
    argv = [str(Path(path).absolute()), *OPTIONS, "-c", worker_source()]
    with suppress(OSError, subprocess.SubprocessError, WrongInterpreter):
        done = subprocess.run(
            argv,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT,
            cwd=_ANYWHERE,
            timeout=_STARTING,
        )
        return str(greeted(done.stdout).get("version", ""))
    return ""
