"""Frozen dataclasses to and from plain JSON values, driven by their annotations.

Reading is strict: a missing, unknown or mistyped member is refused with its path (``wheels[3].sha256``), because a lock
that is half understood is worse than none.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")


class StructureError(ValueError):
    """A value does not have the structure that it must have; the message ends with its path."""


def to_plain(value: Any) -> Any:
    """Return dataclasses and mappings as dicts and tuples as lists, all the way down, without ``None`` members."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = ((member.name, getattr(value, member.name)) for member in dataclasses.fields(value))
        return {name: to_plain(item) for name, item in members if item is not None}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], value: Any, *, path: str = "") -> T:
    """Build ``kind`` (a dataclass) from a plain value; raises ``StructureError``."""
    return typing.cast("T", _read(kind, value, path))


def _read(kind: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if value is None and len(inner) < len(typing.get_args(kind)) else _read(inner[0], value, path)
    if origin is typing.Literal:
        return _one_of(typing.get_args(kind), value, path)
    if origin is tuple:
        item_kind = typing.get_args(kind)[0]
        return tuple(_read(item_kind, item, f"{path}[{n}]") for n, item in enumerate(_expect(list, value, path)))
    if origin is not None and issubclass(origin, Mapping):
        item_kind = typing.get_args(kind)[1]
        return {key: _read(item_kind, item, f"{path}.{key}") for key, item in _expect(dict, value, path).items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, path)
    return _expect(kind, value, path)


def _read_dataclass(kind: Any, value: Any, path: str) -> Any:
    members = _members(kind)
    plain = _expect(dict, value, path)
    unknown = sorted(plain.keys() - members.keys())
    if unknown:
        raise StructureError(f"unknown member {unknown[0]!r}{_at(path)}")
    arguments: dict[str, Any] = {}
    for name, (member_kind, has_default) in members.items():
        if name in plain:
            arguments[name] = _read(member_kind, plain[name], f"{path}.{name}" if path else name)
        elif type(None) in typing.get_args(member_kind):
            arguments[name] = None
        elif not has_default:
            raise StructureError(f"member {name!r} is missing{_at(path)}")
    return kind(**arguments)


@lru_cache
def _members(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return each member's type, and whether it has a default."""
    hints = typing.get_type_hints(kind)
    return {
        member.name: (
            hints[member.name],
            member.default is not dataclasses.MISSING or member.default_factory is not dataclasses.MISSING,
        )
        for member in dataclasses.fields(kind)
    }


def _expect(kind: Any, value: Any, path: str) -> Any:
    # bool is an int in Python, and never in JSON
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise StructureError(f"expected {_NAMES.get(kind, kind.__name__)}, found {_name_of(value)}{_at(path)}")
    return value


def _one_of(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value not in options:
        raise StructureError(f"expected one of {', '.join(map(repr, options))}, found {value!r}{_at(path)}")
    return value


_NAMES = {dict: "an object", list: "a list", str: "a string", int: "an integer", bool: "true or false"}


def _name_of(value: Any) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def _at(path: str) -> str:
    return f" in {path!r}" if path else ""
