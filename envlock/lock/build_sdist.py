"""Building a wheel from an sdist: in a container of the base, with no network and no credentials, from pinned parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envlock.errors import HashMismatch, Unresolvable, WorldError
from envlock.lock.interpreter import FOLDER
from envlock.model.lock import Wheel
from envlock.ports import Artifacts, Container, Handler

Containers = Callable[[Handler | None], AbstractContextManager[Container]]

_ROOT = f"{FOLDER}/build"
_HOME = f"{_ROOT}/home"
_EPOCH = "315532800"  # 1980-01-01, the first moment that a zip file can name
_SHOWN = 25  # lines of a failed build
_OFFLINE = ("--isolated", "--no-index", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--no-input")
_NO_COMPILER = ("gcc' failed", "g++' failed", "'gcc'", "'cc'", "-linux-gnu-gcc", "compiler")

# pip's settings of the base must not matter, so it starts with an environment of its own.
_LAUNCHER = """
import os, runpy, sys
keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CC", "CXX")}
os.environ.clear()
os.environ.update(keep, PIP_CONFIG_FILE=os.devnull, HOME=sys.argv[2], TMPDIR=sys.argv[2], PYTHONHASHSEED="0",
                  SOURCE_DATE_EPOCH=sys.argv[3], PYTHONDONTWRITEBYTECODE="1")
wheel = sys.argv[1]
sys.argv = ["pip", *sys.argv[4:]]
sys.path.insert(0, wheel)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""

# Asks a build backend what else it needs for this source tree (PEP 517, get_requires_for_build_wheel).
_HOOK = """
import json, os, sys, tarfile, zipfile
environment, archive, tree = sys.argv[1:4]
os.environ.update(SOURCE_DATE_EPOCH=sys.argv[4], PYTHONHASHSEED="0")
sys.path.insert(0, environment)
if archive.endswith(".zip"):
    zipfile.ZipFile(archive).extractall(tree)
else:
    extra = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    tarfile.open(archive).extractall(tree, **extra)
os.chdir(os.path.join(tree, os.listdir(tree)[0]))
system = json.loads(sys.argv[5])
sys.path[:0] = [os.path.abspath(part) for part in system.get("backend-path", [])]
module, _, attribute = system.get("build-backend", "setuptools.build_meta:__legacy__").partition(":")
out, sys.stdout = sys.stdout, sys.stderr
__import__(module)
backend = sys.modules[module]
for part in filter(None, attribute.split(".")):
    backend = getattr(backend, part)
hook = getattr(backend, "get_requires_for_build_wheel", lambda *_: [])
print(json.dumps({"requires": hook({})}), file=out)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildInput:
    """Everything that goes into a build, as files of this machine."""

    filename: str  # the sdist's
    sdist: Path
    requires: Sequence[tuple[str, Path]]  # file name of a wheel → where it is
    installer: tuple[str, Path]  # the pip that builds: file name and place


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltWheel:
    """What came out."""

    filename: str
    content: bytes


def build_wheel(
    wanted: BuildInput, *, containers: Containers, python: str, on_line: Callable[[str], None] | None = None
) -> BuiltWheel:
    """Build once; raises ``Unresolvable`` with the end of pip's own output where the build fails."""
    with containers(None) as container:
        container.put(_files(wanted))
        places = (f"--find-links={_ROOT}/wheels", f"--wheel-dir={_ROOT}/out", _sdist(wanted))
        argv = _pip(wanted, python, "wheel", "--use-pep517", "--progress-bar=off", *places)
        done = container.run(argv, user="root", workdir="/", on_line=on_line)
        output = (done.stdout + done.stderr).decode("utf-8", "replace")
        if done.exit_code:
            raise _failed(wanted.filename, output)
        wheels = [one for one in container.files(f"{_ROOT}/out") if one[0].endswith(".whl")]
    if len(wheels) != 1:
        shown = output.splitlines()[-_SHOWN:]
        raise Unresolvable(f"building {wanted.filename} made {len(wheels)} wheels", details=shown)
    return BuiltWheel(filename=wheels[0][0].rpartition("/")[2], content=wheels[0][1])


def backend_requires(
    wanted: BuildInput, *, system: Mapping[str, Any], containers: Containers, python: str
) -> tuple[str, ...]:
    """Ask the build backend what else it needs; nothing where it cannot say (the build will)."""
    environment = f"{_ROOT}/environment"
    with containers(None) as container:
        container.put({**_files(wanted), f"{environment}/.keep": b""})
        if wanted.requires:
            wheels = [f"{_ROOT}/wheels/{name}" for name, _ in wanted.requires]
            container.run(
                _pip(wanted, python, "install", "--no-compile", f"--target={environment}", *wheels), user="root"
            )
        hook = (environment, _sdist(wanted), f"{_ROOT}/tree", _EPOCH, json.dumps(dict(system)))
        done = container.run([python, "-I", "-c", _HOOK, *hook], user="root")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])["requires"]
        return tuple(sorted(str(line) for line in answer))
    except (ValueError, IndexError, KeyError, TypeError):
        return ()


def _files(wanted: BuildInput) -> dict[str, bytes | Path]:
    return {
        _sdist(wanted): wanted.sdist,
        f"{_ROOT}/{wanted.installer[0]}": wanted.installer[1],
        f"{_HOME}/.keep": b"",
        f"{_ROOT}/wheels/.keep": b"",
        **{f"{_ROOT}/wheels/{name}": path for name, path in wanted.requires},
    }


def _sdist(wanted: BuildInput) -> str:
    return f"{_ROOT}/sdist/{wanted.filename}"


def _pip(wanted: BuildInput, python: str, command: str, *arguments: str) -> list[str]:
    launched = [python, "-I", "-c", _LAUNCHER, f"{_ROOT}/{wanted.installer[0]}", _HOME, _EPOCH]
    return [*launched, command, *_OFFLINE, *arguments]


def rebuild_wheel(
    wheel: Wheel, *, files: dict[str, Path], installer: Wheel, containers: Containers, python: str, artifacts: Artifacts
) -> Path:
    """Build a lock's wheel again from its sdist where its file is gone, and return the new file's path.

    ``files`` has the sdist, the build requirements and the installer (sha256 → path), fetched and checked. Raises
    ``HashMismatch`` where another file comes out than the lock has.
    """
    origin = wheel.built_from
    if origin is None:
        raise WorldError(f"{wheel.filename} was not built from an sdist, and cannot be built again")
    built = build_wheel(
        BuildInput(
            filename=origin.filename,
            sdist=files[origin.sha256],
            requires=[(one.filename, files[one.sha256]) for one in origin.build_requires],
            installer=(installer.filename, files[installer.sha256]),
        ),
        containers=containers,
        python=python,
    )
    sha256, size, path = artifacts.add((built.content,))
    if sha256 != wheel.sha256:
        raise HashMismatch(
            f"{wheel.filename} was built again from {origin.filename}, and came out different",
            hint="its build is not reproducible: keep the wheel that was built first in a folder of pip.find_links, or"
            f" lock again with --upgrade-package {wheel.name}",
            details=(
                f"the lock has sha256 {wheel.sha256}, {wheel.size} bytes",
                f"this build has sha256 {sha256}, {size} bytes ({built.filename})",
            ),
        )
    return path


def _failed(filename: str, output: str) -> Unresolvable:
    shown = output.replace(f"file://{_ROOT}/", "").replace(f".{_ROOT}/", "").replace(f"{_ROOT}/", "")
    lines = [line.rstrip() for line in shown.splitlines() if line.strip() and "[notice]" not in line]
    hint = "the build has no network; what it needs has to be in its build-system.requires or in the base"
    if any(word in output for word in _NO_COMPILER):
        hint = "it needs a compiler: take a base that has one, or build the wheel elsewhere for pip.find_links"
    elif "No matching distribution found for" in output:
        hint = "its build-system.requires lacks something: build the wheel elsewhere for pip.find_links"
    return Unresolvable(f"{filename} cannot be built in the base", details=lines[-_SHOWN:], hint=hint)
