"""What a field of the spec can hold: the vocabulary of the table that parser, schema and reference are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Problem = tuple[str, str] | None  # what is wrong with a value, and what to do about it
Check = Callable[[str], Problem]


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text of one form."""

    what: str  # with its article, for "… is not <what>"
    pattern: str  # the whole text must match; a form that Python and ECMA 262 both read, ASCII classes only
    hint: str = ""
    check: Check | None = None  # what a pattern cannot say; asked first, as it knows better words
    tidy: Callable[[str], str] = str  # the one spelling that the rest of envlock sees
    plain: bool = False  # an unquoted number or true/false is taken by its own text
    longest: int = 1000  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Integer:
    """A whole number, decimal."""

    low: int
    high: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """``true`` or ``false``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One of a few words."""

    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Many:
    """A list of one kind."""

    of: Text
    unique: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A mapping from names that the user chooses to one kind."""

    key: Text
    of: Text | Section
    key_word: str = "name"  # what messages and the reference call the key


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A mapping with fixed fields; with ``short``, the value of that one field may stand in the section's place."""

    fields: tuple[Field, ...]
    short: str | None = None


Kind = Text | Integer | Flag | Choice | Many | Named | Section


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field: its name, what it holds, and what it means."""

    name: str
    kind: Kind
    help: str  # Markdown, one paragraph
    required: bool = False
    default: object = None  # as it would be written in JSON; None: nothing
    default_words: str = ""  # where the default is not a constant


def find(section: Section, name: str) -> Field | None:
    """Return a section's field by name."""
    return next((field for field in section.fields if field.name == name), None)
