"""Compiles Python files, read from stdin or a file, for the interpreter that runs this. Stands alone; Python 3.8 on.

::

    worker.py            says who it is (one JSON line), then answers batches from stdin until that ends
    worker.py FILE       says who it is, answers the one batch in FILE, on all cores, and ends

A batch: its length (8 bytes, big-endian), then for each file its path's and its content's length (4 bytes each), path,
content. The answer: its length, then for each file one byte (0: does not compile), a length (4 bytes) and the content
of the compiled file: PEP 552, unchecked hash.

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
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">Q")
_FILE = struct.Struct(">II")
_RESULT = struct.Struct(">BI")
_HEAD = importlib.util.MAGIC_NUMBER + b"\1\0\0\0"  # PEP 552: hash-based, unchecked
_Code = types.CodeType
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


def answer_on_all_cores(batch: bytes, stdout: BinaryIO) -> None:
    """Answer one batch with a process a core, each taking a run of its files."""
    files = list(parsed(batch))
    cores = len(os.sched_getaffinity(0))
    share = sum(len(source) for _, source in files) // cores + 1
    runs: list[list[bytes]] = [[]]
    size = 0
    for path, source in files:
        if size >= share:
            runs.append([])
            size = 0
        encoded = path.encode()
        runs[-1].append(_FILE.pack(len(encoded), len(source)) + encoded + source)
        size += len(source)
    pipes = [_forked(b"".join(run)) for run in runs]
    results = []
    for pipe, child in pipes:
        with os.fdopen(pipe, "rb") as file:
            results.append(file.read())
        if os.waitpid(child, 0)[1]:
            raise SystemExit("a process that compiles failed")
    result = b"".join(results)
    stdout.write(_LENGTH.pack(len(result)) + result)
    stdout.flush()


def _forked(batch: bytes) -> tuple[int, int]:
    """Answer a batch in another process; return the pipe to read the answer from, and the process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return reading, child
    try:
        os.close(reading)
        with os.fdopen(writing, "wb") as file:
            file.write(answer(batch))
    except BaseException:  # noqa: BLE001 - the parent must hear of it, and its own code must not run here
        os._exit(1)
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Serve, or answer one file."""
    stdout = sys.stdout.buffer
    sys.stdout = sys.stderr
    who = {
        "version": sys.version.split()[0],  # with the "rc1" of a version that is not out yet, as platform has it
        "implementation": sys.implementation.name,
        "cache_tag": sys.implementation.cache_tag,
    }
    stdout.write(json.dumps(who).encode() + b"\n")
    stdout.flush()
    if not arguments:
        serve(sys.stdin.buffer, stdout)
        return
    content = Path(arguments[0]).read_bytes()
    answer_on_all_cores(content[_LENGTH.size :], stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
