"""The JSON Schema of ``envlock.yaml`` and its reference, from the table of fields that the parser reads by.

The schema is for editors: it knows every name, type and form. What needs more (dates that exist, requirements that PEP
508 allows, contradictions between fields) only the parser says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from envlock.formats.kinds import Choice, Field, Flag, Integer, Kind, Many, Named, Section, Text
from envlock.formats.spec_fields import SPEC

SCHEMA_FILE = "envlock.schema.json"  # below templates/
BEGIN, END = "<!-- spec:begin -->", "<!-- spec:end -->"  # around the reference in the README


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:envlock:spec:1",
        "title": "envlock.yaml",
        "description": "What a training environment is made of; `envlock lock` pins it.",
        **_schema(SPEC),
    }


def schema_text() -> str:
    """Return the schema as the file that ships: JSON, indented, with a final newline."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """Return the reference of the spec as a Markdown table, one row for each field."""
    head = ["| Field | Value | Default | Meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *_rows(SPEC, "")]) + "\n"


# --- schema -----------------------------------------------------------------------------------------------------------


def _schema(kind: Kind) -> dict[str, Any]:  # noqa: PLR0911 - one for each kind
    match kind:
        case Text():
            return {"type": _types(kind), "pattern": f"^(?:{kind.pattern})$", "maxLength": kind.longest}
        case Integer():
            return {"type": "integer", "minimum": kind.low, "maximum": kind.high}
        case Flag():
            return {"type": "boolean"}
        case Choice():
            return {"type": "string", "enum": list(kind.options)}
        case Many():
            unique = {"uniqueItems": True} if kind.unique else {}
            return {"type": "array", "items": _schema(kind.of), **unique}
        case Named():
            names = {"pattern": f"^(?:{kind.key.pattern})$"}
            return {"type": "object", "propertyNames": names, "additionalProperties": _schema(kind.of)}
        case Section():
            return _section(kind)


def _types(kind: Text) -> str | list[str]:
    if not kind.plain:
        return "string"
    return ["string", "number", "boolean"] if re.fullmatch(kind.pattern, "true") else ["string", "number"]


def _section(kind: Section) -> dict[str, Any]:
    required = [field.name for field in kind.fields if field.required]
    mapping = {
        "type": "object",
        "properties": {field.name: _field(field) for field in kind.fields},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }
    if kind.short is None:
        return mapping
    short = next(field.kind for field in kind.fields if field.name == kind.short)
    return {"anyOf": [_schema(short), mapping]}


def _field(field: Field) -> dict[str, Any]:
    found = _schema(field.kind)
    # a field with nothing after its colon is one that is not given
    if not field.required:
        found = _or_null(found)
    default = {} if field.default is None else {"default": field.default}
    return {"description": field.help, **found, **default}


def _or_null(found: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in found:
        return {"anyOf": [*found["anyOf"], {"type": "null"}]}
    types = found["type"] if isinstance(found["type"], list) else [found["type"]]
    options = {"enum": [*found["enum"], None]} if "enum" in found else {}
    return {**found, "type": [*types, "null"], **options}


# --- reference --------------------------------------------------------------------------------------------------------


def _rows(section: Section, path: str) -> Iterator[str]:
    for field in section.fields:
        name = f"{path}{field.name}"
        yield f"| `{name}` | {_words(field.kind)} | {_default(field)} | {_cell(field.help)} |"
        if isinstance(field.kind, Section):
            yield from _rows(field.kind, f"{name}.")
        elif isinstance(field.kind, Named) and isinstance(field.kind.of, Section):
            yield from _rows(field.kind.of, f"{name}.<{field.kind.key_word}>.")


def _words(kind: Kind) -> str:  # noqa: PLR0911 - one for each kind
    match kind:
        case Text():
            return kind.what.partition(" ")[2] if kind.what.split(" ")[0] in {"a", "an", "the"} else kind.what
        case Integer():
            return f"number from {kind.low} to {kind.high}"
        case Flag():
            return "`true` or `false`"
        case Choice():
            return " or ".join(f"`{option}`" for option in kind.options)
        case Many():
            return f"list, each {kind.of.what}"
        case Named():
            return f"mapping, {kind.key_word} to {_words(kind.of)}"
        case Section():
            return "mapping"


def _default(field: Field) -> str:
    if field.required:
        return "**required**"
    if field.default_words:
        return field.default_words
    if field.default in (None, [], {}):
        return "none" if not isinstance(field.kind, Section) else ""
    return f"`{json.dumps(field.default)}`" if not isinstance(field.default, str) else f"`{field.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
