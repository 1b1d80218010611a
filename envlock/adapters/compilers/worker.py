"""Compiles Python files, read from stdin, for the interpreter that runs this. Stands alone; Python 3.8 on.

::

    worker.py            says who it is (one JSON line), then answers batches from stdin until that ends
    worker.py N          the same with N processes (0: one a core) and numbered batches

A batch: its length (8 bytes, big-endian), then for each file its path's and its content's length (4 bytes each), path,
content. The answer: its length, then for each file one byte (0: does not compile), a length (4 bytes) and the content
of the compiled file: PEP 552, unchecked hash. Where batches are numbered, a number (4 bytes) comes before each length.

What ``compile`` and ``marshal`` make of a file depends on what the process did before: marshal marks an object as
shared where anything else in the process holds it (the same name in another module, say), and whether equal strings
and sets in a module are one object depends on what was interned when. ``_settled`` takes all that out. A test
holds it to tens of thousands of files in different orders and processes.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import queue
import signal
import struct
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, NoReturn

_LENGTH = struct.Struct(">Q")
_NUMBERED = struct.Struct(">IQ")
_FILE = struct.Struct(">II")
_RESULT = struct.Struct(">BI")
_HEAD = importlib.util.MAGIC_NUMBER + b"\1\0\0\0"  # PEP 552: hash-based, unchecked
_Code = types.CodeType
_MOST = 16  # processes
_LONGEST_NAME = 1000  # characters; far more than a qualified name has

# Objects that exist once in a process: held, and interned, so that they are so in each.
_ALWAYS = [sys.intern(chr(code)) for code in range(256)] + [bytes([code]) for code in range(256)] + [sys.intern("")]


def compiled(path: str, source: bytes) -> bytes | None:
    """Return the content of the compiled file, or None: whatever a file can make the compiler raise."""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except Exception:  # noqa: BLE001 - as pip: a file that does not compile stays as it is, whatever the reason
        return None
    held = [path]
    code = _settled(code, held)
    return _HEAD + importlib.util.source_hash(source) + marshal.dumps(code)


def _settled(code: types.CodeType, held: list[str]) -> types.CodeType:
    """Return the same code with sharing that depends on nothing but the source.

    All strings go into ``held``, so that each one is shared as far as marshal can see.
    """
    odd_names: set[str] = set()
    odd_strings: set[str] = set()
    if not _collect(code, held, odd_names, odd_strings) and odd_names.isdisjoint(odd_strings):
        return code
    return _rebuilt(code, odd_names)


def _collect(code: types.CodeType, held: list[str], odd_names: set[str], odd_strings: set[str]) -> bool:
    """Hold all strings, note names and constants that are no identifiers, and say whether there are sets."""
    held += code.co_names
    held += code.co_varnames
    held += code.co_cellvars
    held += code.co_freevars
    for name in (code.co_name, getattr(code, "co_qualname", "")):
        held.append(name)
        if not name.isidentifier():
            odd_names.add(name)
    return _collect_constants(code.co_consts, held, odd_names, odd_strings)


def _collect_constants(constants: tuple[Any, ...], held: list[str], odd_names: set[str], odd_strings: set[str]) -> bool:
    sets = False
    for value in constants:
        kind = type(value)
        if kind is str:
            held.append(value)
            if len(value) < _LONGEST_NAME and not value.isidentifier():
                odd_strings.add(value)
        elif kind is _Code:
            sets |= _collect(value, held, odd_names, odd_strings)
        elif kind is tuple:
            sets |= _collect_constants(value, held, odd_names, odd_strings)
        elif kind is frozenset:
            _collect_constants(value, held, odd_names, odd_strings)
            sets = True
    return sets


def _rebuilt(code: types.CodeType, odd_names: set[str]) -> types.CodeType:
    constants = _rebuilt_constants(code.co_consts, odd_names)
    return code if constants is code.co_consts else code.replace(co_consts=constants)


def _rebuilt_constants(constants: tuple[Any, ...], odd_names: set[str]) -> tuple[Any, ...]:
    """Return the constants, or equal ones where there is anything in them whose identity is a matter of luck."""
    result: list[Any] = []
    changed = False
    for value in constants:
        kind = type(value)
        new: Any = value
        if kind is str and value in odd_names:
            # A constant like a class's qualified name: the interned one, which the class's own code has.
            new, changed = sys.intern(value), True
        elif kind is _Code:
            new = _rebuilt(value, odd_names)
        elif kind is tuple:
            new = _rebuilt_constants(value, odd_names)
        elif kind is frozenset:
            new, changed = frozenset(list(value)), True  # equal sets are sometimes merged: never
        changed |= new is not value
        result.append(new)
    return tuple(result) if changed else constants


def parsed(batch: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (path, source) of a batch."""
    position = 0
    while position < len(batch):
        path_length, length = _FILE.unpack_from(batch, position)
        position += _FILE.size
        path = batch[position : position + path_length].decode()
        position += path_length
        yield path, batch[position : position + length]
        position += length


def answer(batch: bytes) -> bytes:
    """Return the results for a batch, without the length."""
    parts = []
    for path, source in parsed(batch):
        content = compiled(path, source)
        parts += [_RESULT.pack(content is not None, len(content or b"")), content or b""]
    return b"".join(parts)


def serve(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Answer batches until there are no more."""
    while True:
        head = stdin.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return
        result = answer(stdin.read(_LENGTH.unpack(head)[0]))
        stdout.write(_LENGTH.pack(len(result)) + result)
        stdout.flush()


def serve_with(processes: int, stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Answer numbered batches with several processes, in the order in which they are ready.

    Ends at once when there are no more, whatever is under way: nobody waits for it.
    """
    children = _children(processes)  # before there are threads
    batches: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
    writing = threading.Lock()

    def feed(child: _Child) -> None:
        while True:
            number, batch = batches.get()
            result = _asked(batch, child)
            if result is None:
                raise EOFError
            with writing:
                stdout.write(_NUMBERED.pack(number, len(result)) + result)
                stdout.flush()

    def guarded(child: _Child) -> None:
        try:
            feed(child)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the answer has to hear of it
            os.write(2, f"a process that compiles failed: {error!r}\n".encode())
            _end(children, 1)

    for child in children:
        threading.Thread(target=guarded, args=(child,), daemon=True).start()
    while True:
        head = stdin.read(_NUMBERED.size)
        if len(head) < _NUMBERED.size:
            _end(children, 0)
        number, length = _NUMBERED.unpack(head)
        batches.put((number, stdin.read(length)))


class _Child(NamedTuple):
    """A process that serves, and the pipes to it and from it."""

    process: int
    stdin: BinaryIO
    stdout: BinaryIO


def _end(children: list[_Child], code: int) -> NoReturn:
    for child in children:
        with suppress(OSError):
            os.kill(child.process, signal.SIGKILL)
    os._exit(code)


def _children(count: int) -> list[_Child]:
    """Start processes, or as many as there may be."""
    children: list[_Child] = []
    for _ in range(count):
        try:
            children.append(_forked(children))
        except OSError:
            if not children:
                raise
            break
    return children


def _asked(batch: bytes, child: _Child) -> bytes | None:
    """Return what a process makes of a batch; None where it ended."""
    try:
        child.stdin.write(_LENGTH.pack(len(batch)) + batch)
        child.stdin.flush()
    except OSError:
        return None
    head = child.stdout.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
    result = child.stdout.read(length) if length >= 0 else b""
    return result if len(result) == length else None


def _forked(siblings: list[_Child]) -> _Child:
    """Start a process that serves."""
    its_stdin, to_child = os.pipe()
    from_child, its_stdout = os.pipe()
    process = os.fork()
    if process:
        os.close(its_stdin)
        os.close(its_stdout)
        return _Child(process, os.fdopen(to_child, "wb"), os.fdopen(from_child, "rb"))
    try:
        # Each end of a pipe has to be in one process alone: that is how an end is seen.
        for sibling in siblings:
            sibling.stdin.close()
            sibling.stdout.close()
        for end in (to_child, from_child):
            os.close(end)
        nothing = os.open(os.devnull, os.O_RDWR)
        for end in (0, 1):
            os.dup2(nothing, end)
        serve(os.fdopen(its_stdin, "rb"), os.fdopen(its_stdout, "wb"))
    finally:  # the parent's code must not run here
        os._exit(1)


def main(arguments: list[str]) -> None:
    """Say who it is, and serve."""
    stdout = sys.stdout.buffer
    sys.stdout = sys.stderr
    processes = (int(arguments[0]) if arguments else 1) or min(len(os.sched_getaffinity(0)), _MOST)
    who = {
        "version": sys.version.split()[0],  # with the "rc1" of a version that is not out yet, as platform has it
        "implementation": sys.implementation.name,
        "cache_tag": sys.implementation.cache_tag,
        "cores": processes,
    }
    stdout.write(json.dumps(who).encode() + b"\n")
    stdout.flush()
    if arguments:
        serve_with(processes, sys.stdin.buffer, stdout)
    else:
        serve(sys.stdin.buffer, stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
