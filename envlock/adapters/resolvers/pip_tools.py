"""pip-tools, run by the base's own interpreter: markers, tags and Requires-Python are the target's own.

The host's installed copies (pure Python) travel into the container. There is no network in it; the only index is the
handler's, and no setting of pip, neither this machine's nor the base's, reaches it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from envlock.adapters.resolvers.explanations import failure
from envlock.errors import InputError, WorldError
from envlock.model.lock import BasePython
from envlock.ports import GATEWAY_URL, Container, Handler, Resolution

_ROOT = "/tmp/.envlock/resolve"  # noqa: S108 - in a container of ours that nobody else is in
_TOOLS = f"{_ROOT}/tools"
_DISTRIBUTION = "pip-tools"
_LEFT_OUT = frozenset(("setuptools", "wheel"))  # only needed to build, and nothing is built there
_SECONDS = 3600  # a package that is built on demand has its metadata after the build

_LAUNCHER = f"""
import os, sys
keep = {{name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}}
os.environ.clear()
os.environ.update(keep, PIP_CONFIG_FILE=os.devnull, HOME={_ROOT!r}, TMPDIR={_ROOT!r}, LC_ALL="C.UTF-8",
                  PIP_NO_INPUT="1", PYTHONDONTWRITEBYTECODE="1")
sys.dont_write_bytecode = True
sys.path.insert(0, {_TOOLS!r})
from piptools.__main__ import cli
cli()
"""


class PipToolsResolver:
    """Implements ``ports.Resolver``."""

    def resolve(
        self,
        *,
        requirements: Sequence[str],
        constraints: Sequence[str],
        preferred: Mapping[str, str],
        handler: Handler,  # noqa: ARG002 - it is open in the container already
        container: Container,
        target: BasePython,
        on_line: Callable[[str], None],
    ) -> Resolution:
        """Run pip-compile; see ``ports.Resolver``."""
        container.put(dict(_tools(target)) | _inputs(requirements, constraints, preferred))
        done = container.run(
            [target.executable, "-I", "-c", _LAUNCHER, *_arguments()],
            user="root",
            workdir=_ROOT,
            on_line=lambda line: on_line(found[1]) if (found := _COLLECTING.match(line)) else None,
        )
        if done.exit_code:
            texts = [text.decode("utf-8", "replace") for text in (done.stderr, done.stdout)]
            raise failure("pip-compile", *texts, requirements=requirements)
        output = container.read(f"{_ROOT}/requirements.txt")
        if output is None:
            raise WorldError(
                "pip-compile wrote nothing", details=done.stderr.decode("utf-8", "replace").splitlines()[-20:]
            )
        return Resolution(pins=read_pins(output.decode()))


_COLLECTING = re.compile(r"\s*Collecting ([^\s(]+)")


def read_pins(text: str) -> dict[str, str]:
    """Read what pip-compile and uv write: ``name==version`` lines; raises ``WorldError`` for anything else."""
    pins: dict[str, str] = {}
    for line in text.splitlines():
        bare = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if not bare:
            continue
        requirement = Requirement(bare)
        (specifier,) = requirement.specifier or [None]
        if specifier is None or specifier.operator != "==":
            raise WorldError(f"the resolver wrote {bare!r} where a pin was expected")
        pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def _arguments() -> list[str]:
    pip = f"--retries 0 --timeout {_SECONDS} --disable-pip-version-check --no-input --no-cache-dir --only-binary :all:"
    return [
        *("compile", "--verbose", "--resolver=backtracking", "--allow-unsafe", "--strip-extras", "--no-config"),
        *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-options"),
        *("--index-url", f"{GATEWAY_URL}/simple/", "--cache-dir", f"{_ROOT}/cache", "--pip-args", pip),
        *("--constraint", f"{_ROOT}/constraints.txt", "--output-file", f"{_ROOT}/requirements.txt"),
        f"{_ROOT}/requirements.in",
    ]


def _inputs(
    requirements: Sequence[str], constraints: Sequence[str], preferred: Mapping[str, str]
) -> dict[str, bytes | Path]:
    pins = [f"{name}=={version}" for name, version in sorted(preferred.items())]
    files = {"requirements.in": requirements, "constraints.txt": constraints, "requirements.txt": pins}
    return {f"{_ROOT}/{name}": "".join(f"{line}\n" for line in lines).encode() for name, lines in files.items()}


def _tools(target: BasePython) -> Iterator[tuple[str, bytes | Path]]:
    """Yield the files of pip-tools and of what it needs on the target; raises ``InputError`` for a Python too old."""
    for distribution in _distributions(target):
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts or file.parts[0] == "bin":
                continue
            is_metadata = file.parts[0].endswith(".dist-info") and file.name in ("METADATA", "entry_points.txt")
            if file.suffix in (".py", ".pem") or is_metadata:
                yield f"{_TOOLS}/{file.as_posix()}", Path(str(distribution.locate_file(file)))


def _distributions(target: BasePython) -> list[metadata.Distribution]:
    todo, found = [_DISTRIBUTION], dict[str, metadata.Distribution]()
    while todo:
        name = todo.pop()
        if name in found or name in _LEFT_OUT:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise WorldError(
                f"{name} is not installed beside envlock, and pip-tools needs it on Python {target.version}",
                hint=f"install it: pip install {name}",
            ) from None
        _check_python(distribution, target)
        found[name] = distribution
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({**target.markers, "extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    return [found[name] for name in sorted(found)]


def _check_python(distribution: metadata.Distribution, target: BasePython) -> None:
    needed = str(distribution.metadata.json.get("requires_python") or "")
    if needed and not SpecifierSet(needed).contains(target.version, prereleases=True):
        raise InputError(
            f"{distribution.name} {distribution.version} needs Python {needed}, and the base has {target.version}",
            hint="take resolver: uv (which runs on this machine) under pip in the spec, or a base with a newer Python",
        )
