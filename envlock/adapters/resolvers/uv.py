"""uv, run on this machine for the target: many times as fast as pip-tools, and the same pins."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from envlock.adapters.gateway import serve_on_loopback
from envlock.adapters.resolvers.explanations import failure
from envlock.adapters.resolvers.pip_tools import read_pins
from envlock.errors import InputError, WorldError
from envlock.model.lock import BasePython
from envlock.ports import Container, Handler, Resolution

_SECONDS = "3600"  # a package that is built on demand has its metadata after the build
_NEWEST_GLIBC = 40  # of those that uv knows by name; the handler only offers what the target's own libc takes


class UvResolver:
    """Implements ``ports.Resolver``; the container is not needed. ``environ`` is what uv's process may know of ours."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {name: environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in environ}

    def resolve(
        self,
        *,
        requirements: Sequence[str],
        constraints: Sequence[str],
        preferred: Mapping[str, str],
        handler: Handler,
        container: Container,  # noqa: ARG002 - uv resolves for a target that it does not run on
        target: BasePython,
        on_line: Callable[[str], None],
    ) -> Resolution:
        """Run ``uv pip compile``; see ``ports.Resolver``."""
        program = find_uv()
        on_line("uv")
        with tempfile.TemporaryDirectory(prefix="envlock-uv-") as name, serve_on_loopback(handler) as server:
            folder = Path(name)
            pins = [f"{package}=={version}" for package, version in sorted(preferred.items())]
            files = {"requirements.in": requirements, "constraints.txt": constraints, "requirements.txt": pins}
            for file, lines in files.items():
                (folder / file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            done = subprocess.run(
                [program, *_arguments(folder, f"{server.url}/simple/", target)],
                cwd=folder,
                env=self._environ
                | {"HOME": name, "UV_HTTP_TIMEOUT": _SECONDS, "UV_HTTP_RETRIES": "0", "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if done.returncode:
                raise failure("uv", done.stderr.decode("utf-8", "replace"), requirements=requirements)
            return Resolution(pins=read_pins((folder / "requirements.txt").read_text(encoding="utf-8")))


def find_uv() -> str:
    """Return where uv is; raises ``InputError`` where it is not installed beside envlock."""
    try:
        import uv  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError(
            "the spec says resolver: uv, and uv is not installed beside envlock",
            hint="install it: pip install 'envlock[uv]', or take resolver: pip-tools",
        ) from error
    try:
        return os.fsdecode(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise WorldError(
            "uv is installed, but its program is missing", hint="pip install --force-reinstall uv"
        ) from error


def _arguments(folder: Path, index: str, target: BasePython) -> list[str]:
    return [
        *("pip", "compile", "--no-config", "--cache-dir", str(folder / "cache"), "--python", sys.executable),
        *("--index-url", index, "--only-binary", ":all:", "--python-version", target.version),
        *("--python-platform", _platform(target), "--no-header", "--no-annotate", "--strip-extras", "--quiet"),
        *("--constraint", str(folder / "constraints.txt"), "--output-file", str(folder / "requirements.txt")),
        str(folder / "requirements.in"),
    ]


def _platform(target: BasePython) -> str:
    """Return uv's name of the target; its index only has files that fit the libc there."""
    machine = target.markers.get("platform_machine", "")
    if target.libc.startswith("musl"):
        return f"{machine}-unknown-linux-musl"
    if machine in ("x86_64", "aarch64"):
        return f"{machine}-manylinux_2_{_NEWEST_GLIBC}"
    return f"{machine}-unknown-linux-gnu"
