"""What must hold between fields of a spec, beyond each field's own form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envlock.formats.spec_reader import Reader

# The image's own: a virtual environment that is not first on the path is none.
OWN_VARIABLES = ("PATH", "VIRTUAL_ENV")
_OWN_LABELS = tuple(
    f"org.opencontainers.image.{name}"
    for name in ("created", "revision", "version", "source", "title", "base.name", "base.digest")
)
SEED_VARIABLES = {
    "SEED": "seed",
    "PYTHONHASHSEED": "seed",
    "DATA_SEED": "data_seed",
    "CUDNN_DETERMINISTIC": "cudnn_deterministic",
    "CUBLAS_WORKSPACE_CONFIG": "cudnn_deterministic",
}


def check(reader: Reader, values: Mapping[str, Any]) -> None:
    """Report every contradiction; ``values`` may lack what has a fault already."""
    _check_indexes(reader, values.get("pip", {}))
    _check_apt(reader, values.get("apt", {}), as_of=values.get("as_of"))
    _check_env(reader, values.get("env", {}))
    _check_labels(reader, values.get("image", {}).get("labels", {}))


def _check_indexes(reader: Reader, pip: Mapping[str, Any]) -> None:
    indexes, folders = pip.get("indexes", {}), pip.get("find_links", {})
    for name in sorted(indexes.keys() & folders.keys()):
        hint = "each source needs a name of its own"
        reader.fault(None, f"pip.find_links.{name}", "has the name of an index", hint)
    bound: dict[str, str] = {}
    for name, index in indexes.items():
        for number, package in enumerate(index.get("packages", ())):
            if package in bound:
                message = f"binds {package}, which pip.indexes.{bound[package]} binds already"
                path = f"pip.indexes.{name}.packages[{number}]"
                reader.fault(None, path, message, "a package comes from one index")
            bound.setdefault(package, name)


def _check_apt(reader: Reader, apt: Mapping[str, Any], *, as_of: str | None) -> None:
    if apt.get("snapshot") and not as_of and "as_of" not in reader.places:
        reader.fault(None, "apt.snapshot", "needs as_of", "as_of: 2026-01-31 says which snapshot")
    seen: dict[str, str] = {}
    for number, request in enumerate(apt.get("packages", ())):
        name = request.partition("=")[0]
        if seen.get(name, request) != request:
            path = f"apt.packages[{number}]"
            reader.fault(None, path, f"asks for {request}, and an earlier line for {seen[name]}", "keep one of them")
        seen.setdefault(name, request)


def _check_env(reader: Reader, env: Mapping[str, str]) -> None:
    for name in env:
        if name in OWN_VARIABLES:
            reader.fault(None, f"env.{name}", "is set by the image itself", "its environment is first on the PATH")
        seed = f"seeds.{SEED_VARIABLES.get(name, '')}"
        if seed in reader.places:
            reader.fault(None, f"env.{name}", f"is what {seed} sets", "keep one of them")


def _check_labels(reader: Reader, labels: Mapping[str, str]) -> None:
    for name in labels:
        if name in _OWN_LABELS or name.startswith("envlock."):
            reader.fault(None, f"image.labels.{name}", "is set by envlock", "leave it out, or choose another name")
