"""Reads a Python environment on this machine by asking its own interpreter."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from envlock.errors import UsageError, WorldError
from envlock.formats.text import has_credentials, looks_secret
from envlock.model.image import Installed
from envlock.model.live import LiveEnvironment

_SECONDS = 60
_MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "i686": "386"}

# Runs in the interpreter that is asked, of any Python 3.8 or newer; isolated (-I), so neither the working folder nor
# PYTHONPATH take part. The user's own packages do, as they would in a normal run of that interpreter.
_SCRIPT = r"""
import json, os, platform, site, sys
from importlib import metadata
paths = list(sys.path)
if sys.prefix == sys.base_prefix and not os.environ.get("PYTHONNOUSERSITE"):
    paths.append(site.getusersitepackages())
found = {}
for dist in metadata.distributions(path=paths):
    name, version = dist.metadata["Name"], dist.metadata["Version"]
    if name and version and name.lower().replace("_", "-") not in found:
        found[name.lower().replace("_", "-")] = [name, version, dist.read_text("direct_url.json")]
print(json.dumps({
    "python": platform.python_version(), "sys_version": sys.version, "executable": sys.executable,
    "prefix": sys.prefix, "implementation": sys.implementation.name, "libc": list(platform.libc_ver()),
    "packages": list(found.values()),
}))
"""

# What can move a result: libraries' own switches for threads, kernels, precision and determinism.
_OF_INTEREST = re.compile(
    r"(?:CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|TORCH|PYTORCH|TF|XLA|JAX|OMP|MKL|OPENBLAS|NUMEXPR|KMP|HF|TRANSFORMERS|TOKENIZERS)"
    r"_[A-Z0-9_]+|PYTHON[A-Z]+|SEED|DATA_SEED|LD_PRELOAD|LD_LIBRARY_PATH|LANG|LC_ALL|TZ"
)


def read_live(python: Path, *, environ: Mapping[str, str]) -> LiveEnvironment:
    """Ask an interpreter what is installed in its environment, and this machine what it is.

    ``environ`` is what the interpreter would see (the caller's own environment). Raises ``UsageError`` where there is
    no interpreter, ``WorldError`` where it does not answer.
    """
    said = _ask(python, environ)
    packages = {str(canonicalize_name(name)): version for name, version, _ in said["packages"]}
    direct = {str(canonicalize_name(name)): found for name, _, text in said["packages"] if (found := _describe(text))}
    freeze = "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()))
    libc = " ".join(said["libc"]).strip()
    driver, gpus = _gpu()
    installed = Installed(
        python_version=said["python"],
        packages=dict(sorted(packages.items())),
        freeze=freeze,
        reported={"python": said["sys_version"]},
    )
    return LiveEnvironment(
        installed=installed,
        executable=said["executable"],
        prefix=said["prefix"],
        implementation=said["implementation"],
        platform=f"{platform.system().lower()}/{_MACHINES.get(platform.machine(), platform.machine())}",
        libc=libc or None,
        os=_os(),
        direct=direct,
        env=_of_interest(environ),
        apt=_apt(),
        driver=driver,
        gpus=gpus,
    )


def _of_interest(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(environ.items())
        if _OF_INTEREST.fullmatch(name) and not looks_secret(name) and not has_credentials(value)
    }


def _ask(python: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    command = [str(python), "-I", "-c", _SCRIPT]
    hint = "activate the environment whose packages are meant, and try again"
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, env=dict(environ))
    except FileNotFoundError:
        raise UsageError(f"there is no interpreter {python}", hint=hint) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorldError(f"{python} does not answer: {error}", hint=hint) from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.decode(errors="replace").splitlines()[-5:]
        raise WorldError(f"{python} cannot say what is installed", hint=hint, details=lines) from None
    return answer


def _describe(text: str | None) -> str:
    """Return what direct_url.json (PEP 610) says, in a few words; empty for a package from an index."""
    if text is None:
        return ""
    try:
        found = json.loads(text)
        url = re.sub(r"//[^/@]*@", "//", str(found["url"]))
        if found.get("dir_info", {}).get("editable"):
            return "editable"
        commit = found.get("vcs_info", {}).get("commit_id")
    except (ValueError, KeyError, AttributeError, TypeError):
        return "installed from a URL"
    return f"{url}@{commit}" if commit else url


def _os() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _apt() -> dict[str, str] | None:
    lines = _lines(["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}\t${Package}\t${Version}\n"])
    if lines is None:
        return None
    rows = (line.split("\t") for line in lines)
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0].startswith("ii")}  # noqa: PLR2004


def _gpu() -> tuple[str | None, tuple[str, ...]]:
    lines = _lines(["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"])
    rows = [tuple(part.strip() for part in line.split(",", 1)) for line in lines or () if "," in line]
    return (rows[0][0], tuple(row[1] for row in rows)) if rows else (None, ())


def _lines(command: Sequence[str]) -> list[str] | None:
    """Return a program's output, or None where it is missing or fails: all of this is only nice to know."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else None
