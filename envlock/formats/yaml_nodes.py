"""YAML as a small tree with positions, and nothing else of YAML.

Nothing is constructed: a scalar is its own text, so ``python: 3.10`` stays ``3.10``. Tags, merge keys, duplicate keys,
keys that are not text and further documents are refused. Aliases count with everything that they stand for, so that a
few lines cannot become millions of values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from envlock.errors import Fault
from envlock.formats.text import quote

MAX_DEPTH = 16
MAX_NODES = 20_000  # values, with aliases expanded

Meaning = Literal["text", "number", "boolean", "nothing"]

# YAML 1.2's core schema (§10.3.2): `no`, `on` and 2026-01-31 are text, unlike in YAML 1.1.
_NOTHING = re.compile(r"(?:~|null|Null|NULL)?")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_NUMBER = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scalar:
    """A leaf: its own text and, for an unquoted one, what YAML 1.2 takes it for."""

    line: int  # 1-based
    column: int  # 1-based
    text: str
    plain: bool
    size: int = 1

    @property
    def meaning(self) -> Meaning:
        """Return what the scalar stands for."""
        if not self.plain:
            return "text"
        if _NOTHING.fullmatch(self.text):
            return "nothing"
        if _BOOLEAN.fullmatch(self.text):
            return "boolean"
        return "number" if _NUMBER.fullmatch(self.text) else "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """A list."""

    line: int
    column: int
    items: tuple[Node, ...]
    size: int  # nodes, this one and those below it, with aliases expanded


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A mapping; its keys are unique."""

    line: int
    column: int
    entries: tuple[tuple[Scalar, Node], ...]
    size: int


Node = Scalar | Items | Table


def compose(text: str, *, file: str) -> tuple[Node | None, tuple[Fault, ...]]:
    """Return the only document's root (None: empty, or not readable) and every fault of its form."""
    composer = _Composer(file)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            composer.take(event)
    except _Stop:
        return None, tuple(composer.faults)
    # the scanner lets chr() and int() complain about absurd escapes and version numbers
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        return None, (*composer.faults, _syntax_fault(error, text, file))
    return composer.root, tuple(composer.faults)


class _Stop(Exception):
    """Reading on would only cost time."""


@dataclass(kw_only=True, slots=True)
class _Open:
    """A list or mapping whose end is still to come."""

    line: int
    column: int
    anchor: str | None
    is_table: bool
    children: list[Node] = field(default_factory=list)  # of a mapping: key, value, key, value …
    size: int = 1


class _Composer:
    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self.faults: list[Fault] = []
        self._file = file
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0

    def take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._start_document(event)
            case yaml.ScalarEvent():
                self._refuse_tag(event)
                self._scalar(event)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._refuse_tag(event)
                self._start(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end()
            case yaml.AliasEvent():
                self._alias(event)

    def _start_document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._fault(event, "a second document starts here", "keep one document: remove the ---")
            raise _Stop

    def _scalar(self, event: Any) -> None:
        line, column = _place(event)
        if _SURROGATE.search(event.value):
            self._fault(event, "has half a character (a surrogate), which is no text")
        node = Scalar(line=line, column=column, text=_SURROGATE.sub("\ufffd", event.value), plain=event.style is None)
        self._add(node, event, anchor=event.anchor)

    def _start(self, event: Any) -> None:
        if len(self._open) >= MAX_DEPTH:
            self._fault(event, f"is nested more than {MAX_DEPTH} deep")
            raise _Stop
        line, column = _place(event)
        is_table = isinstance(event, yaml.MappingStartEvent)
        self._open.append(_Open(line=line, column=column, anchor=event.anchor, is_table=is_table))

    def _end(self) -> None:
        done = self._open.pop()
        node: Node
        if done.is_table:
            entries = tuple(self._entries(done))
            node = Table(line=done.line, column=done.column, entries=entries, size=done.size)
        else:
            node = Items(line=done.line, column=done.column, items=tuple(done.children), size=done.size)
        self._add(node, None, anchor=done.anchor)

    def _alias(self, event: Any) -> None:
        node = self._anchors.get(event.anchor)
        if node is None:
            inside = any(frame.anchor == event.anchor for frame in self._open)
            self._fault(event, f"*{event.anchor} " + ("contains itself" if inside else "has no anchor before it"))
            raise _Stop
        self._add(node, event, anchor=None)

    def _add(self, node: Node, event: Any, *, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        frame.children.append(node)
        frame.size += node.size
        if sum(above.size for above in self._open) > MAX_NODES:
            hint = "write the values out instead of repeating an anchor" if isinstance(event, yaml.AliasEvent) else ""
            place = _place(event) if event is not None else (node.line, node.column)
            self._fault_at(*place, f"the file stands for more than {MAX_NODES:,} values", hint)
            raise _Stop

    def _entries(self, frame: _Open) -> Iterator[tuple[Scalar, Node]]:
        seen: dict[str, Scalar] = {}
        for key, value in zip(frame.children[::2], frame.children[1::2], strict=True):
            if not isinstance(key, Scalar):
                self._fault_at(key.line, key.column, "a key must be text", "quote a key that starts with { or [")
            elif key.plain and key.text == "<<":
                self._fault_at(key.line, key.column, "merge keys (<<) are not supported", "write the fields out")
            elif key.text in seen:
                first = seen[key.text]
                self._fault_at(key.line, key.column, f"{quote(key.text)} is there twice", f"first in line {first.line}")
            else:
                seen[key.text] = key
                yield key, value

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            self._fault(event, f"tag {quote(event.tag)} is not supported", "leave the tag out")

    def _fault(self, event: Any, message: str, hint: str = "") -> None:
        self._fault_at(*_place(event), message, hint)

    def _fault_at(self, line: int, column: int, message: str, hint: str) -> None:
        self.faults.append(Fault(file=self._file, line=line, column=column, message=message, hint=hint))


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _syntax_fault(error: Exception, text: str, file: str) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        # the reader gives a character's number where it was handed text
        character = error.character if isinstance(error.character, str) else chr(error.character)
        return Fault(file=file, line=line, column=column, message=f"{quote(character)} may not stand in YAML")
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        if "'\\t'" in (error.problem or ""):
            message, hint = "a tab is used as indentation, which YAML does not allow", "use spaces"
            return Fault(file=file, line=line, column=column, message=message, hint=hint)
        parts = (part for part in (error.context, error.problem) if part)
        return Fault(file=file, line=line, column=column, message=f"not YAML: {_sentence(': '.join(parts))}")
    return Fault(file=file, message=f"not YAML: {error}")


def _sentence(text: str) -> str:
    return " ".join(text.split())
