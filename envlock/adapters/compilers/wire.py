"""How sources travel to the worker and compiled files come back; see ``worker``."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from envlock.errors import WorldError
from envlock.layers.compiler import Source
from envlock.layers.target import Target

NUMBERED = struct.Struct(">IQ")  # a batch's number, and its length
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
    """Return a batch, without its length."""
    parts = []
    for path, content in sources:
        name = path.encode()
        parts += [_FILE.pack(len(name), len(content)), name, content]
    return b"".join(parts)


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


def greeted(line: bytes) -> dict[str, Any]:
    """Return what an interpreter says it is; raises ``WrongInterpreter`` where it is no CPython."""
    try:
        who = json.loads(line)
    except ValueError:
        who = None
    if not isinstance(who, dict) or who.get("implementation") != "cpython" or not isinstance(who.get("cores"), int):
        raise WrongInterpreter("what compiles has to be CPython")
    return who


def check_greeting(line: bytes, target: Target) -> int:
    """Return how many processes answer.

    Raises ``WrongInterpreter`` where the interpreter is not exactly the target's version.
    """
    who = greeted(line)
    if (who.get("version"), who.get("cache_tag")) != (target.python, target.cache_tag):
        found = who.get("version", "another one")
        raise WrongInterpreter(f"compiling for Python {target.python} needs exactly that version, not {found}")
    return max(1, int(who["cores"]))
