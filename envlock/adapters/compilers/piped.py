"""Compiling with an interpreter at the far end of a pipe: a process of this machine, or a container's first one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Self

from envlock.adapters.compilers.wire import NUMBERED, OPTIONS, check_greeting, packed, unpacked, worker_source
from envlock.errors import WorldError
from envlock.layers.compiler import Source
from envlock.layers.target import Target
from envlock.ports import Pipe

ALL_CORES = 0
_LONGEST_GREETING = 1000  # bytes
_STARTING = 60  # seconds that an interpreter has for saying who it is
_WORTH_SHARING = 32 << 10  # bytes of sources: less takes a core a few milliseconds


def worker_argv(python: Sequence[str], cores: int = ALL_CORES) -> list[str]:
    """Return the command that answers at the far end, with this many processes."""
    return [*python, *OPTIONS, "-c", worker_source(), str(cores)]


class PipedCompiler:
    """Implements ``layers.compiler.Compiler``; a context, which has to end before the pipe.

    Batches are sent as they come, and their answers taken in any order, so the far end always has something to do.
    Entering waits for the interpreter, and raises ``WrongInterpreter`` where it is another one than the target's.
    """

    def __init__(self, pipe: Pipe, target: Target) -> None:
        self._pipe = pipe
        self._target = target
        self._cores = 1
        self._sending = threading.Lock()
        self._lock = threading.Lock()  # of what follows
        self._asked = 0
        self._waiting: dict[int, Future[bytes]] = {}
        self._over = False

    def __enter__(self) -> Self:
        limit = threading.Timer(_STARTING, self._pipe.close)
        limit.start()
        try:
            greeting = self._greeting()
        finally:
            limit.cancel()
        if not greeting.endswith(b"\n"):
            raise self._broken("the interpreter that compiles did not start")
        self._cores = check_greeting(greeting, self._target)
        threading.Thread(target=self._take, name="compiled", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def compile(self, sources: Sequence[Source]) -> Sequence[bytes | None]:
        """Compile files; a large batch on all cores."""
        asked = [(len(piece), self._ask(piece)) for piece in _shared(sources, self._cores)]
        return [compiled for count, answer in asked for compiled in unpacked(answer.result(), count)]

    def _ask(self, sources: Sequence[Source]) -> Future[bytes]:
        batch = packed(sources)
        answer: Future[bytes] = Future()
        with self._lock:
            if self._over:
                raise self._broken()
            self._asked += 1
            number = self._asked
            self._waiting[number] = answer
        try:
            with self._sending:
                self._pipe.send(NUMBERED.pack(number, len(batch)))
                self._pipe.send(batch)
        except (OSError, ValueError) as error:
            raise self._broken() from error
        return answer

    def _take(self) -> None:
        """Hand out answers until there are no more."""
        try:
            while self._take_one():
                pass
        except (OverflowError, MemoryError):
            pass  # so long an answer is none
        finally:
            self._end()

    def _take_one(self) -> bool:
        head = self._pipe.receive(NUMBERED.size)
        if len(head) < NUMBERED.size:
            return False
        number, length = NUMBERED.unpack(head)
        answer = self._pipe.receive(length)
        with self._lock:
            waiting = self._waiting.pop(number, None)
        if waiting is None:
            return False  # an answer to nothing: it is no worker of ours
        if len(answer) < length:
            waiting.set_exception(self._broken())
            return False
        waiting.set_result(answer)
        return True

    def _end(self) -> None:
        with self._lock:
            self._over = True
            left, self._waiting = list(self._waiting.values()), {}
        for waiting in left:
            waiting.set_exception(self._broken())

    def _broken(self, what: str = "the interpreter that compiles ended while it was in use") -> WorldError:
        return WorldError(
            what,
            hint="was memory short, or was it killed? run the command again",
            details=self._pipe.complaints()[-10:],
        )

    def _greeting(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") and len(line) < _LONGEST_GREETING:
            more = self._pipe.receive(1)
            if not more:
                break
            line += more
        return line


def _shared(sources: Sequence[Source], parts: int) -> list[Sequence[Source]]:
    """Return a batch in as many parts, of about the same size; a small one in one."""
    sizes = [len(source.content) for source in sources]
    share = max(sum(sizes) // parts + 1, _WORTH_SHARING)
    found: list[Sequence[Source]] = []
    start = size = 0
    for place, more in enumerate(sizes):
        if size >= share:
            found.append(sources[start:place])
            start, size = place, 0
        size += more
    return [*found, sources[start:]]
