"""The parser, the JSON Schema that ships, and the README's reference say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from envlock.errors import SpecError
from envlock.formats.kinds import Named, Section
from envlock.formats.spec_fields import SPEC
from envlock.formats.spec_reader import defaults
from envlock.formats.spec_schema import BEGIN, END, SCHEMA_FILE, reference, schema, schema_text
from envlock.formats.spec_yaml import parse_spec
from envlock.formats.templates import folder
from envlock.formats.yaml_nodes import Items, Node, Scalar, compose
from envlock.model.spec import ImageOptions, Spec

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "spec"
HOW = "is not current: run .ci/reference"
# what needs more than a form: these are valid by the schema, and only the parser refuses them
ONLY_PARSER = {
    "bad-contradictions", "bad-files", "bad-duplicate-keys", "bad-escapes", "bad-merge", "bad-tags",
}  # fmt: skip


def plain(node: Node | None) -> object:
    """Return what a JSON Schema validator of an editor sees (YAML 1.2)."""
    if node is None:
        return None
    if isinstance(node, Scalar):
        return {
            "text": lambda: node.text,
            "number": lambda: float(node.text) if re.search(r"[.eE]", node.text) else int(node.text),
            "boolean": lambda: node.text.lower() == "true",
            "nothing": lambda: None,
        }[node.meaning]()
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {key.text: plain(value) for key, value in node.entries}


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_schema_that_ships_is_current():
    assert (folder() / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text(), HOW
    assert json.loads(schema_text()) == schema()


def test_the_readme_has_the_reference():
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if BEGIN not in text:
        return
    between = text.partition(BEGIN)[2].partition(END)[0]
    assert between.strip() == reference().strip(), HOW


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/expected.json")))
def test_good_specs_are_valid_by_the_schema(case):
    root, faults = compose((GOLDEN / case / "envlock.yaml").read_text(encoding="utf-8"), file=case)
    assert not faults
    assert [error.message for error in validator().iter_errors(plain(root))] == []


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("*/expected.txt")))
def test_bad_specs_are_not_valid_by_the_schema(case):
    if case in ONLY_PARSER:
        return
    try:
        text = (GOLDEN / case / "envlock.yaml").read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    root, faults = compose(text, file=case)
    assert faults or not validator().is_valid(plain(root))


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ("name", "a b"),
        ("name", 1),
        ("base", "a b"),
        ("python", "3"),
        ("python", True),
        ("platform", "windows/amd64"),
        ("cuda", "12"),
        ("as_of", "yesterday"),
        ("apt", "git"),
        ("apt", ["git;id"]),
        ("apt", {"package": []}),
        ("pip", {"resolver": "poetry"}),
        ("pip", {"indexes": {"a": {"packages": []}}}),
        ("pip", {"sdist": ["a b"]}),
        ("pip", {"indexes": {"a": "ftp://x.example.org"}}),
        ("pip", ["$(id)"]),
        ("env", {"A B": "1"}),
        ("env", {"A": []}),
        ("seeds", {"seed": -1}),
        ("seeds", {"seed": "1"}),
        ("seeds", {"cudnn_deterministic": 1}),
        ("image", {"uid": 0}),
        ("image", {"tags": ["a b"]}),
        ("image", {"workdir": "work"}),
        ("project", {"include": ["$(id)"]}),
        ("zzz", 1),
    ],
)
def test_parser_and_schema_refuse_the_same(fields, value):
    document = {"name": "demo", "base": "debian:12", "python": "3.11", fields: value}
    assert not validator().is_valid(document)
    with pytest.raises(SpecError):
        parse_spec(json.dumps(document))  # JSON is YAML


def test_defaults_of_the_table_are_those_of_the_model():
    spec = parse_spec("name: demo\nbase: debian:12\npython: 3.11\n")
    assert spec == Spec(name="demo", base="debian:12", python="3.11", image=ImageOptions(repository="demo"))
    assert set(defaults(SPEC)) == {field.name for field in SPEC.fields if not field.required}


def test_the_reference_has_every_field():
    rows = set(re.findall(r"^\| `([^`]+)`", reference(), re.MULTILINE))
    assert rows == set(paths(SPEC, ""))
    assert all(line.count("|") == 5 for line in reference().splitlines())


def paths(section: Section, prefix: str) -> list[str]:
    found = []
    for field in section.fields:
        found.append(prefix + field.name)
        if isinstance(field.kind, Section):
            found += paths(field.kind, f"{prefix}{field.name}.")
        elif isinstance(field.kind, Named) and isinstance(field.kind.of, Section):
            found += paths(field.kind.of, f"{prefix}{field.name}.<{field.kind.key_word}>.")
    return found
