"""How sources travel to the worker and compiled files come back; see ``worker``."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from importlib.resources import files

from envlock.errors import WorldError
from envlock.layers.compiler import Source
from envlock.layers.target import Target

LENGTH = struct.Struct(">Q")
_FILE = struct.Struct(">II")
_RESULT = struct.Struct(">BI")

# Nothing of whoever starts it may change what an interpreter compiles: no site, no user site, no path of its own, no
# warnings as errors; and sets are in one order in versions of Python where that is not so anyway. An empty variable is
# as good as none (CPython, config_get_env), and hides one that a base sets.
OPTIONS = ("-S", "-s", "-B", "-W", "ignore")
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONINTMAXSTRDIGITS": "",
    "PYTHONNODEBUGRANGES": "",
    "PYTHONOPTIMIZE": "",
    "PYTHONPATH": "",
    "PYTHONWARNINGS": "",
}


class WrongInterpreter(WorldError):
    """An interpreter that is not the target's."""


def worker_source() -> str:
    """Return the program that compiles."""
    return files("envlock.adapters.compilers").joinpath("worker.py").read_text("utf-8")


def packed(sources: Sequence[Source]) -> bytes:
    """Return a batch, with its length."""
    parts = []
    for path, content in sources:
        name = path.encode()
        parts += [_FILE.pack(len(name), len(content)), name, content]
    body = b"".join(parts)
    return LENGTH.pack(len(body)) + body


def unpacked(answer: bytes | memoryview, count: int) -> list[bytes | None]:
    """Return the results of a batch of ``count`` files from an answer without its length."""
    results: list[bytes | None] = []
    position = 0
    while position + _RESULT.size <= len(answer):
        compiles, length = _RESULT.unpack_from(answer, position)
        position += _RESULT.size
        results.append(bytes(answer[position : position + length]) if compiles else None)
        position += length
    if position != len(answer):
        raise WorldError("the interpreter that compiles did not answer in full")
    if len(results) != count:
        raise WorldError(f"the interpreter that compiles answered for {len(results)} of {count} files")
    return results


def check_greeting(line: bytes, target: Target) -> None:
    """Raise ``WrongInterpreter`` where the interpreter is not exactly the target's version."""
    try:
        who = json.loads(line)
    except ValueError:
        who = {}
    wanted = {"version": target.python, "implementation": "cpython", "cache_tag": target.cache_tag}
    if {name: who.get(name) for name in wanted} != wanted:
        found = f"{who.get('implementation', 'nothing')} {who.get('version', '')}".strip()
        raise WrongInterpreter(f"compiling for Python {target.python} needs exactly that version, not {found}")
