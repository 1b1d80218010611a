"""``make bench``: everything that is measured, into tables on stdout and in benchmarks/results/.

python -m benchmarks [--list small|full|cuda] [--find-links DIR] [--runs N] [--sample N] [--only lock|build]
                     [--parts cold,same,pin,warm,bytes,growth] [--alone]
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import build, lock
from benchmarks.bench import bench

_TRAINING = ("transformers", "peft", "accelerate", "datasets", "mlflow", "numpy", "scipy")
LISTS = {
    "small": ("scikit-learn==1.7.2", "mlflow-skinny"),
    "twenty": ("scikit-learn==1.7.2", "pandas", "matplotlib", "requests"),
    "full": ("torch", *_TRAINING),  # with a wheel for the CPU in --find-links
    "cuda": ("torch", *_TRAINING),  # with what the index has
}
_GROWTH = {"small": ("twenty",), "twenty": (), "full": ("twenty",), "cuda": ("twenty", "full")}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whatever is to be removed at the end, is
    with tempfile.TemporaryDirectory(prefix="envlock-bench-", ignore_cleanup_errors=True) as folder:
        if options.only != "build":
            (Path(folder) / "lock").mkdir()
            wanted = lock.Wanted(packages=packages(options.list, options.find_links), find_links=options.find_links)
            write("lock", options.list, [lock.main(Path(folder) / "lock", wanted, runs=options.runs)])
        if options.only != "lock":
            (Path(folder) / "build").mkdir()
            others = [name for name in _GROWTH[options.list] if name != "full" or options.find_links]
            lists = {name: packages(name, options.find_links) for name in (options.list, *others)}
            with bench(
                Path(folder) / "build",
                name=options.list,
                find_links=options.find_links,
                runs=options.runs,
                sample=options.sample,
                alone=options.alone,
            ) as it:
                write("build", options.list, build.main(it, lists, options.parts))


def packages(name: str, find_links: Path | None) -> list[str]:
    """Return a list's packages; torch is that of the folder of wheels, but in the list that wants CUDA."""
    found = sorted(find_links.glob("torch-*.whl")) if find_links and name != "cuda" else []
    pinned = f"torch=={found[-1].name.split('-')[1]}" if found else "torch"
    return [pinned if one == "torch" else one for one in LISTS[name]]


def write(what: str, name: str, texts: Iterable[str]) -> None:
    """Print tables as they come, and keep them: what was measured is there even where the rest never comes."""
    RESULTS.mkdir(exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    head = f"## {what}, list {name}\n\n{time.strftime('%Y-%m-%d')}, {machine}\n"
    with (RESULTS / f"{what}-{name}.md").open("w", encoding="utf-8") as file:
        for text in itertools.chain([head], texts):
            print(text, flush=True)
            print(text, file=file, flush=True)


def _options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=str(__doc__).partition("\n")[0])
    arguments.add_argument("--list", choices=LISTS, default="small", help="which packages (default: small)")
    arguments.add_argument(
        "--find-links", type=Path, help="a folder of wheels beside the index: torch for the CPU, say"
    )
    arguments.add_argument("--runs", type=int, default=3, help="counted runs of each way (default: 3)")
    arguments.add_argument(
        "--sample", type=int, default=15, help="how many pins of a long list are changed (default: 15)"
    )
    arguments.add_argument("--alone", action="store_true", help="of build, only envlock: minutes instead of hours")
    arguments.add_argument("--only", choices=["lock", "build"], help="measure only this")
    arguments.add_argument(
        "--parts",
        type=_parts,
        default=list(build.PARTS),
        help=f"of build, with commas (default: {','.join(build.PARTS)})",
    )
    return arguments.parse_args()


def _parts(text: str) -> list[str]:
    found = text.split(",")
    unknown = [part for part in found if part not in build.PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(build.PARTS)}")
    return found


main()
