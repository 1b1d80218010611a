"""The text of a new spec: made for people to read and change, and accepted by the parser as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envlock.errors import UsageError
from envlock.formats import names
from envlock.formats.spec_checks import SEED_VARIABLES
from envlock.formats.spec_reader import problem_of
from envlock.formats.spec_yaml import parse_spec
from envlock.formats.yaml_nodes import Scalar
from envlock.init.found import Found, LeftOut

DEFAULT_PYTHON = "3.11"

# What stands for itself in YAML, unquoted, wherever it is put.
_PLAIN = re.compile(
    r"[A-Za-z./][A-Za-z0-9._/+<>=!~@*-]*(?::[A-Za-z0-9][A-Za-z0-9._/+@-]*)*"
    r"(?:\[[A-Za-z0-9._-]+\][A-Za-z0-9.+<>=!~*]*)?(?:,[<>=!~]+[A-Za-z0-9.+*]+)*"
)
_IN_FLOW = re.compile(r"[A-Za-z./][A-Za-z0-9._/+<>=!~@-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What the user said on the command line; it goes before what was found."""

    name: str | None = None
    base: str | None = None
    python: str | None = None


def spec_text(found: Found, *, choices: Choices, folder: str) -> str:
    """Return the new spec, parsed once to be sure; ``folder`` names it where nothing else does.

    Raises ``UsageError`` where a choice is no valid value.
    """
    _check(choices)
    text = "\n".join(_lines(found, choices, folder)) + "\n"
    parse_spec(text)
    return text


def _check(choices: Choices) -> None:
    given = (("--name", choices.name, names.PROJECT_NAME), ("--base", choices.base, names.IMAGE_REFERENCE))
    for option, value, kind in (*given, ("--python", choices.python, names.PYTHON_VERSION)):
        problem = problem_of(kind, value) if value is not None else None
        if problem:
            raise UsageError(f"{option}: {problem[0]}", hint=problem[1])


def _lines(found: Found, choices: Choices, folder: str) -> Iterator[str]:
    of_base = re.search(r"(?:python:|py)(3\.[0-9]+)", choices.base or "")
    python = choices.python or (of_base and of_base[1]) or found.python or DEFAULT_PYTHON
    full = found.python_full if found.python_full and found.python == python else python
    base = choices.base or f"python:{full}-slim-bookworm"
    yield f"# Made by envlock init from {_comment(found.source)}. Change it as you like, then run: envlock lock"
    yield f"name: {_scalar(choices.name or found.name or folder)}"
    yield ""
    yield "# Any Debian or Ubuntu image that has this Python; the lock pins it by digest."
    yield f"base: {_scalar(base)}"
    yield f"python: {json.dumps(python)}" + (f"  # {_comment(found.python_why)}" if _says_why(found, choices) else "")
    if found.platform and found.platform != "linux/amd64":
        yield f"platform: {found.platform}"
    if found.cuda:
        yield f"cuda: {json.dumps(found.cuda)}  # everything must agree on it"
    yield from _pip(found)
    yield from _env(found)
    yield from _invitation(found)
    if found.assumed:
        yield ""
        yield f"# Check that these are the same projects on the package index: {', '.join(found.assumed)}"
    yield from _left_out(found.left_out)


def _says_why(found: Found, choices: Choices) -> bool:
    return bool(found.python_why) and choices.python is None


def _pip(found: Found) -> Iterator[str]:
    yield ""
    body = [
        *_list("packages", found.packages),
        *_list("requirements", found.requirements),
        *_list("constraints", found.constraints),
        *_indexes(found),
        *_folders(found),
    ]
    if not body:
        yield "# Python packages, as in a requirements file:"
        yield "pip: []"
        yield "# - numpy<3"
        return
    yield "# Python packages. The lock pins these and whatever they need, each with its hash."
    yield "pip:"
    yield from (f"  {line}" for line in body)


def _list(name: str, values: Iterable[str]) -> list[str]:
    lines = [f"  - {_scalar(value)}" for value in values]
    return [f"{name}:", *lines] if lines else []


def _indexes(found: Found) -> Iterator[str]:
    if found.indexes:
        yield "indexes:  # the packages of an index come from it, and from nowhere else"
    for name, (url, packages) in found.indexes.items():
        yield f"  {name}:"
        yield f"    url: {json.dumps(url)}"
        if packages:
            yield f"    packages: [{', '.join(_scalar(package, flow=True) for package in packages)}]"


def _folders(found: Found) -> Iterator[str]:
    if found.find_links:
        yield "find_links:"
    yield from (f"  {name}: {_scalar(path)}" for name, path in found.find_links.items())


def _env(found: Found) -> Iterator[str]:
    if found.env:
        yield ""
        yield "env:"
    yield from (f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in found.env.items())


def _invitation(found: Found) -> Iterator[str]:
    if not SEED_VARIABLES.keys() & found.env.keys():
        yield from (
            "",
            "# Seeds become SEED, DATA_SEED and PYTHONHASHSEED in every container.",
            "seeds:",
            "  seed: 42",
            "  data_seed: 42",
            "#  cudnn_deterministic: true  # slower, and the same on every run",
        )
    yield from (
        "",
        "# What else a spec can say:",
        "# apt: [git]",
        "# project: [train.py, src]   # your own files, copied into the image",
    )
    if not found.env:
        yield '# env: {TOKENIZERS_PARALLELISM: "false"}'
    yield "# image: {repository: registry.example.org/team/demo, tags: [latest]}"
    yield "# mlflow: {experiment: demo}"


def _left_out(left_out: tuple[LeftOut, ...]) -> Iterator[str]:
    if left_out:
        yield ""
        yield "# Not carried over:"
    yield from (f"# - {_comment(item.what)}: {_comment(item.why)}" for item in left_out)


def _comment(text: str) -> str:
    """Return a text that cannot end a comment."""
    return "".join(character if character.isprintable() else " " for character in text)


def _scalar(text: str, *, flow: bool = False) -> str:
    """Return a text as a YAML scalar that is read as this text, unquoted where it can be."""
    is_plain = (_IN_FLOW if flow else _PLAIN).fullmatch(text)
    if is_plain and Scalar(line=1, column=1, text=text, plain=True).meaning == "text":
        return text
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False)
