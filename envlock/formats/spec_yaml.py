"""``envlock.yaml``: text to ``Spec``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envlock.errors import Fault, SpecError
from envlock.formats import spec_checks
from envlock.formats.spec_fields import SPEC
from envlock.formats.spec_reader import MISSING, Reader
from envlock.formats.text import decode
from envlock.formats.yaml_nodes import Table, compose
from envlock.model.spec import (
    Apt,
    AptRepository,
    AptRequest,
    FindLinks,
    ImageOptions,
    Index,
    Pip,
    ProjectFiles,
    Seeds,
    Spec,
    Tracking,
)

FILE_NAME = "envlock.yaml"
MAX_SIZE = 256 * 1024  # bytes, and characters


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedSpec:
    """A spec, and where in its file each value stands: path (``pip.requirements[0]``) → (line, column), from 1."""

    spec: Spec
    file: str
    places: Mapping[str, tuple[int, int]]


def parse_spec(text: str | bytes, *, file: str = FILE_NAME) -> Spec:
    """Return the validated, completed spec; raises ``SpecError`` with every fault, in the words of ``file``."""
    return parse_placed(text, file=file).spec


def parse_placed(text: str | bytes, *, file: str = FILE_NAME) -> PlacedSpec:
    """As ``parse_spec``, with the places of the values."""
    if isinstance(text, bytes):
        text = decode(text, file=file, limit=MAX_SIZE)
    if len(text) > MAX_SIZE:
        raise SpecError([Fault(file=file, message=f"has {len(text):,} characters, more than {MAX_SIZE:,}")])
    root, faults = compose(text.removeprefix("\ufeff"), file=file)
    reader = Reader(file=file, root=SPEC, faults=list(faults))
    if not isinstance(root, Table):
        if not faults:
            _refuse_root(reader, root)
        raise SpecError(reader.faults)
    values = reader.read(SPEC, root, "")
    if values is not MISSING:
        spec_checks.check(reader, values)
    if reader.faults:
        raise SpecError(sorted(reader.faults, key=lambda fault: (fault.line, fault.column)))
    return PlacedSpec(spec=_spec(values), file=file, places=reader.places)


def _refuse_root(reader: Reader, root: Any) -> None:
    if root is None or getattr(root, "meaning", "") == "nothing":
        reader.fault(None, "", "the file is empty", "envlock init writes a first one")
        return
    hint = "write name: value lines, as envlock init does"
    reader.fault(root, "", "the file must be a mapping of fields", hint)


def _spec(values: Mapping[str, Any]) -> Spec:
    return Spec(
        name=values["name"],
        base=values["base"],
        python=values["python"],
        platform=values["platform"],
        cuda=values["cuda"],
        as_of=values["as_of"],
        apt=_apt(values["apt"]),
        pip=_pip(values["pip"]),
        env=values["env"],
        seeds=Seeds(**values["seeds"]),
        image=ImageOptions(**{**values["image"], "repository": values["image"]["repository"] or values["name"]}),
        project=ProjectFiles(**values["project"]),
        mlflow=Tracking(**values["mlflow"]),
    )


def _apt(values: Mapping[str, Any]) -> Apt:
    requests = (package.partition("=") for package in values["packages"])
    return Apt(
        packages=tuple(AptRequest(name=name, version=version or None) for name, _, version in requests),
        repositories=tuple(AptRepository(name=name, **item) for name, item in values["repositories"].items()),
        snapshot=values["snapshot"],
    )


def _pip(values: Mapping[str, Any]) -> Pip:
    plain = {name: values[name] for name in ("packages", "requirements", "constraints", "sdist", "resolver")}
    return Pip(
        indexes=tuple(Index(name=name, **item) for name, item in values["indexes"].items()),
        find_links=tuple(FindLinks(name=name, path=path) for name, path in values["find_links"].items()),
        **plain,
    )
