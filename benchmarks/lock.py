"""Lock time for a fine-tuning list, side by side with what people use without envlock; every run with empty caches.

    python -m benchmarks.lock [--runs 3] [--base envlock/base:py3.11] [--find-links FOLDER]

``--find-links``: a folder with a torch wheel for the base (CPU, say); without one, torch comes from the default index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Way, command, compare
from envlock.adapters.pip_configuration import read_pip_settings
from envlock.adapters.resolvers.uv import find_uv

REQUIREMENTS = ("accelerate", "datasets", "mlflow", "numpy", "peft", "scipy", "torch", "transformers")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--base", default="envlock/base:py3.11")
    parser.add_argument("--python", default="3.11", help="the base's")
    parser.add_argument("--find-links", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="envlock-bench-") as folder:
        ways = all_ways(Path(folder), options)
        print(compare(f"Locking {', '.join(REQUIREMENTS)}", ways, runs=options.runs))


def all_ways(folder: Path, options: argparse.Namespace) -> list[Way]:
    links = ["--find-links", str(options.find_links.absolute())] if options.find_links else []
    requirements = folder / "requirements.in"
    requirements.write_text("".join(f"{one}\n" for one in REQUIREMENTS), encoding="utf-8")
    output, env = str(folder / "requirements.txt"), clean_environment(folder)

    def empty() -> None:
        for name in ("cache", "requirements.txt", "uv/envlock.lock", "pip-tools/envlock.lock"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def envlock(resolver: str) -> Way:
        project = folder / resolver
        write_spec(project, resolver, options)

        def run() -> None:
            command([sys.executable, "-m", "envlock", "lock"], cwd=project, env=env)

        return Way(name=f"envlock lock, {resolver}", prepare=empty, run=run)

    def other(name: str, argv: Sequence[str]) -> Way:
        return Way(name=name, prepare=empty, run=lambda: command([*argv, *links], cwd=folder, env=env) and None)

    pip_compile = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    uv = [
        find_uv(),
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-config",
        "--python-version",
        options.python,
    ]
    return [
        envlock("pip-tools"),
        envlock("uv"),
        other("pip-compile --generate-hashes", [*pip_compile, "-o", output, str(requirements)]),
        other("uv pip compile --generate-hashes", [*uv, "-o", output, str(requirements)]),
    ]


def write_spec(project: Path, resolver: str, options: argparse.Namespace) -> None:
    project.mkdir()
    lines = ["name: bench", f"base: {options.base}", f'python: "{options.python}"', "pip:"]
    lines += [f"  packages: [{', '.join(REQUIREMENTS)}]", f"  resolver: {resolver}"]
    if options.find_links:
        (project / "wheels").symlink_to(options.find_links.absolute())
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
    return found | {name: str(folder / "cache" / name.lower()) for name in caches}


if __name__ == "__main__":
    main()
