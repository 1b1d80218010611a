"""A YAML tree held against the table of fields: plain values with defaults, and every fault with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from envlock.errors import Fault
from envlock.formats import kinds
from envlock.formats.kinds import Choice, Field, Flag, Integer, Kind, Many, Named, Problem, Section, Text
from envlock.formats.text import quote
from envlock.formats.yaml_nodes import Items, Node, Scalar, Table

_WORD_FOR_BOOLEAN = re.compile(r"(?i)(yes|on|y)|(no|off|n)")


class _Missing:
    """There is no value, because a fault was reported in its place."""


MISSING: Final = _Missing()


@dataclass(kw_only=True, slots=True)
class Reader:
    """Reads one tree; collects faults and the place of every value by its path (``pip.packages[0]``)."""

    file: str
    root: Section
    faults: list[Fault] = field(default_factory=list)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def fault(self, node: Node | None, path: str, message: str, hint: str = "") -> _Missing:
        """Report a fault of the value at ``path``."""
        line, column = (node.line, node.column) if node else self.places.get(path, (0, 0))
        text = f"{path} {message}" if path else message
        self.faults.append(Fault(file=self.file, line=line, column=column, message=text, hint=hint))
        return MISSING

    def read(self, kind: Kind, node: Node, path: str) -> Any:  # noqa: PLR0911 - one for each kind
        """Return a node's value: str, int, bool, tuple or dict; ``MISSING`` where it has a fault."""
        self.places[path] = (node.line, node.column)
        match kind:
            case Text():
                return self._text(kind, node, path)
            case Integer():
                return self._integer(kind, node, path)
            case Flag():
                return self._flag(node, path)
            case Choice():
                return self._choice(kind, node, path)
            case Many():
                return self._many(kind, node, path)
            case Named():
                return self._named(kind, node, path)
            case Section():
                return self._section(kind, node, path)

    # --- scalars -----------------------------------------------------------------------------------------------------

    def _text(self, kind: Text, node: Node, path: str) -> Any:
        if not isinstance(node, Scalar):
            return self.fault(node, path, f"must be {kind.what}, not {_shape(node)}", _for_text(kind, node))
        if node.meaning == "nothing":
            hint = 'write "" for an empty text' if kind.pattern.endswith("*") else ""
            return self.fault(node, path, "has no value", hint)
        if node.meaning != "text" and not kind.plain:
            return self.fault(node, path, f"must be text, not {node.text}", f'quote it if it is meant: "{node.text}"')
        problem = problem_of(kind, node.text)
        if problem:
            message, hint = problem
            return self.fault(node, path, message, hint)
        return kind.tidy(node.text)

    def _integer(self, kind: Integer, node: Node, path: str) -> Any:
        wanted = f"must be a whole number from {kind.low} to {kind.high}"
        if not isinstance(node, Scalar) or not re.fullmatch(r"[-+]?[0-9]{1,40}", node.text) or not node.plain:
            found = quote(node.text) if isinstance(node, Scalar) else _shape(node)
            hint = "write it without quotes" if _is_digits(node) else ""
            return self.fault(node, path, f"{wanted}, not {found}", hint)
        if re.fullmatch(r"[-+]?0[0-9]+", node.text):
            hint = f"some YAML readers take it as octal: write {int(node.text)}"
            return self.fault(node, path, f"{wanted}, without leading zeros", hint)
        number = int(node.text)
        return number if kind.low <= number <= kind.high else self.fault(node, path, f"{wanted}, not {number}")

    def _flag(self, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and node.meaning == "boolean":
            return node.text.lower() == "true"
        hint = ""
        if isinstance(node, Scalar) and (word := _WORD_FOR_BOOLEAN.fullmatch(node.text) or _quoted_boolean(node)):
            hint = f"write {'true' if word[1] else 'false'}"
        found = quote(node.text) if isinstance(node, Scalar) else _shape(node)
        return self.fault(node, path, f"must be true or false, not {found}", hint)

    def _choice(self, kind: Choice, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and node.text in kind.options:
            return node.text
        found = quote(node.text) if isinstance(node, Scalar) else _shape(node)
        near = _near(node.text, kind.options) if isinstance(node, Scalar) else ""
        return self.fault(node, path, f"must be {' or '.join(kind.options)}, not {found}", near)

    # --- collections -------------------------------------------------------------------------------------------------

    def _many(self, kind: Many, node: Node, path: str) -> Any:
        if not isinstance(node, Items):
            is_word = isinstance(node, Scalar) and re.fullmatch(r"[A-Za-z0-9._/-]{1,60}", node.text)
            hint = f"write a list: [{node.text}]" if isinstance(node, Scalar) and is_word else "write a list"
            return self.fault(node, path, f"must be a list, not {_shape(node)}", hint)
        values: dict[str, int] = {}
        found = []
        for number, item in enumerate(node.items):
            value = self.read(kind.of, item, f"{path}[{number}]")
            if value is MISSING:
                continue
            if kind.unique and value in values:
                hint = f"first in line {values[value]}"
                self.fault(item, f"{path}[{number}]", f"is there twice: {quote(value)}", hint)
            values.setdefault(value, item.line)
            found.append(value)
        return tuple(found)

    def _named(self, kind: Named, node: Node, path: str) -> Any:
        if not isinstance(node, Table):
            hint = (
                f"write one line for each: {kind.key_word}: value"
                if isinstance(kind.of, Text)
                else "write one entry for each name"
            )
            return self.fault(node, path, f"must be a mapping, not {_shape(node)}", hint)
        found = {}
        for key, item in node.entries:
            problem = problem_of(kind.key, key.text)
            if problem:
                self.fault(key, path, f"has a name that cannot be: {problem[0]}", problem[1])
            value = self.read(kind.of, item, f"{path}.{key.text}" if not problem else f"{path}.?")
            if not problem and value is not MISSING:
                found[kind.key.tidy(key.text)] = value
        return found

    def _section(self, kind: Section, node: Node, path: str) -> Any:
        if not isinstance(node, Table):
            short = kinds.find(kind, kind.short) if kind.short else None
            if short is None or (isinstance(short.kind, Many) and isinstance(node, Scalar)):
                what = "a list or a mapping" if short else "a mapping of fields"
                return self.fault(node, path, f"must be {what}, not {_shape(node)}")
            value = self.read(short.kind, node, f"{path}.{short.name}")
            given = {} if value is MISSING else {short.name: value}
        else:
            given = dict(self._fields(kind, node, path))
        return {**defaults(kind), **given}

    def _fields(self, kind: Section, node: Table, path: str) -> Iterator[tuple[str, Any]]:
        there = {key.text for key, _ in node.entries}
        for key, item in node.entries:
            known = kinds.find(kind, key.text)
            where = f"{path}.{key.text}" if path else key.text
            if known is None:
                self.fault(key, "", f"{quote(where)[1:-1]} is no field", self._similar(kind, key.text, path))
            elif isinstance(item, Scalar) and item.meaning == "nothing" and not known.required:
                self.places[where] = (item.line, item.column)  # `apt:` with everything below it commented out
            elif (value := self.read(known.kind, item, where)) is not MISSING:
                yield key.text, value
        for missing in (known for known in kind.fields if known.required and known.name not in there):
            title = f"field {path}.{missing.name}" if path else f"field {missing.name}"
            self.fault(node, "", f"{title} is missing", _example(missing))

    def _similar(self, kind: Section, name: str, path: str) -> str:
        near = _near(name, tuple(field.name for field in kind.fields), prefix=f"{path}." if path else "")
        elsewhere = next((place for place in _all_paths(self.root, "") if place.rpartition(".")[2] == name), "")
        return near or (f"there is {elsewhere}" if elsewhere else "")


def defaults(section: Section) -> dict[str, Any]:
    """Return the values of a section of which nothing is given; sections below it are completed in the same way."""
    return {field.name: _default(field) for field in section.fields if not field.required}


def problem_of(kind: Text, text: str) -> Problem:
    """Return what is wrong with a text of a kind, and what to do about it."""
    if len(text) > kind.longest:
        return f"has {len(text):,} characters, more than {kind.longest:,}", ""
    problem = kind.check(text) if kind.check else None
    if problem:
        message, hint = problem
        return f"{quote(text)} {message}", hint
    return None if re.fullmatch(kind.pattern, text) else (f"{quote(text)} is not {kind.what}", kind.hint)


def _default(field: Field) -> Any:
    match field.kind:
        case Section():
            return defaults(field.kind)
        case Many():
            return tuple(field.default) if isinstance(field.default, list) else ()
        case Named():
            return {}
    return field.default


def _all_paths(section: Section, path: str) -> Iterator[str]:
    for item in section.fields:
        yield f"{path}{item.name}"
        if isinstance(item.kind, Section):
            yield from _all_paths(item.kind, f"{path}{item.name}.")


def _near(name: str, options: tuple[str, ...], *, prefix: str = "") -> str:
    tidy: Callable[[str], str] = lambda text: text.lower().replace("-", "_")  # noqa: E731
    found = get_close_matches(tidy(name), [tidy(option) for option in options], n=1, cutoff=0.6)
    return f"did you mean {prefix}{options[[tidy(option) for option in options].index(found[0])]}?" if found else ""


def _shape(node: Node) -> str:
    match node:
        case Items():
            return "a list"
        case Table():
            return "a mapping"
    return {"nothing": "nothing", "boolean": node.text}.get(node.meaning, quote(node.text))


def _for_text(kind: Text, node: Node) -> str:
    if isinstance(node, Table) and len(node.entries) == 1 and isinstance(node.entries[0][1], Scalar):
        key, value = node.entries[0][0], node.entries[0][1]
        return f'a colon and a space make a mapping of it; quote it: "{key.text}: {value.text}"' if key.plain else ""
    return kind.hint


def _example(field: Field) -> str:
    examples = {"base": "base: python:3.11-slim-bookworm", "python": 'python: "3.11"', "name": "name: demo"}
    return f"like {examples[field.name]}" if field.name in examples else ""


def _is_digits(node: Node) -> bool:
    return isinstance(node, Scalar) and re.fullmatch(r"[0-9]+", node.text) is not None


def _quoted_boolean(node: Scalar) -> re.Match[str] | None:
    return re.fullmatch(r"(?i)(true)|(false)", node.text)
