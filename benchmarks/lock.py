"""Lock time, side by side with what people use without envlock; every run with empty caches."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Done, Way, command, compare
from benchmarks.tables import comparison
from envlock.adapters.pip_configuration import read_pip_settings
from envlock.adapters.resolvers.uv import find_uv

BASE = "127.0.0.1:5000/envlock/base:py3.11"
PYTHON = "3.11"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is locked, and the folder of wheels beside the index, if there is one."""

    packages: Sequence[str]
    find_links: Path | None = None


def main(folder: Path, wanted: Wanted, *, runs: int) -> str:
    """Return the table."""
    ways = all_ways(folder, wanted)
    ways[0].run()  # once unmeasured: the engine has the base
    count = (folder / "pip-tools" / "envlock.lock").read_text().count('"filename":') - 1  # and the installer
    title = f"Lock, {count} packages, empty caches"
    return comparison(title, compare(title, ways, runs=runs))


def all_ways(folder: Path, wanted: Wanted) -> list[Way]:
    links = ["--find-links", str(wanted.find_links.absolute())] if wanted.find_links else []
    requirements = folder / "requirements.in"
    requirements.write_text("".join(f"{one}\n" for one in wanted.packages), encoding="utf-8")
    output, env = str(folder / "requirements.txt"), clean_environment(folder)

    def empty() -> None:
        for name in ("cache", "requirements.txt", "uv/envlock.lock", "pip-tools/envlock.lock"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def envlock(resolver: str) -> Way:
        project = folder / resolver
        write_spec(project, resolver, wanted)

        def run() -> Done:
            return command([sys.executable, "-m", "envlock", "lock"], cwd=project, env=env)

        return Way(name=f"envlock lock, {resolver}", prepare=empty, run=run)

    def other(name: str, argv: Sequence[str]) -> Way:
        return Way(name=name, prepare=empty, run=lambda: command([*argv, *links], cwd=folder, env=env))

    pip_compile = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    uv = [
        find_uv(),
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-config",
        "--python-version",
        PYTHON,
    ]
    return [
        envlock("pip-tools"),
        envlock("uv"),
        other("pip-compile --generate-hashes", [*pip_compile, "-o", output, str(requirements)]),
        other("uv pip compile --generate-hashes", [*uv, "-o", output, str(requirements)]),
    ]


def write_spec(project: Path, resolver: str, wanted: Wanted) -> None:
    project.mkdir()
    lines = ["name: bench", f"base: {BASE}", f'python: "{PYTHON}"', "pip:"]
    lines += [f"  packages: [{', '.join(wanted.packages)}]", f"  resolver: {resolver}"]
    if wanted.find_links:
        (project / "wheels").symlink_to(wanted.find_links.absolute())
        lines += ["  find_links: {local: wheels}"]
    (project / "envlock.yaml").write_text("\n".join([*lines, ""]), encoding="utf-8")


def clean_environment(folder: Path) -> dict[str, str]:
    """Return what all ways see: the same index, reached the same way, and nothing else of pip's configuration."""
    settings = read_pip_settings(os.environ, home=Path.home(), prefix=Path(sys.prefix))
    found = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": settings.index_url, "UV_INDEX_URL": settings.index_url}
    found |= dict.fromkeys(("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"), "")
    if settings.ca_bundle:
        found |= {"PIP_CERT": settings.ca_bundle, "SSL_CERT_FILE": settings.ca_bundle}
    caches = ("PIP_CACHE_DIR", "PIP_TOOLS_CACHE_DIR", "UV_CACHE_DIR", "ENVLOCK_CACHE_DIR")
    found["PYTHONPATH"] = str(Path(__file__).parents[1])  # this checkout, installed or not
    # Python compiles what it runs once, as where programs are installed, and not into the checkout.
    found |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "pyc")}
    return found | {name: str(folder / "cache" / name.lower()) for name in caches}
