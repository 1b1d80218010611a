"""``make bench``: everything that is measured, into one table on stdout and in benchmarks/results/.

python -m benchmarks [--list small|full] [--find-links DIR] [--runs N] [--only lock|build]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks import build, lock

LISTS = {
    "small": ["scikit-learn==1.7.2", "mlflow-skinny"],
    "full": ["torch", "transformers", "peft", "accelerate", "datasets", "mlflow", "numpy", "scipy"],
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--list", choices=LISTS, default="small", help="which packages (default: small)")
    arguments.add_argument(
        "--find-links", type=Path, help="a folder of wheels beside the index: torch for the CPU, say"
    )
    arguments.add_argument("--runs", type=int, default=3, help="counted runs of each way (default: 3)")
    arguments.add_argument("--only", choices=["lock", "build"], help="measure only this")
    options = arguments.parse_args()
    packages = LISTS[options.list]
    wanted = lock.Wanted(packages=packages, find_links=options.find_links)
    tables = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, list {options.list}\n"
    ]
    with tempfile.TemporaryDirectory(prefix="envlock-bench-") as folder:
        if options.only != "build":
            (Path(folder) / "lock").mkdir()
            tables.append(lock.main(Path(folder) / "lock", wanted, runs=options.runs))
        if options.only != "lock":
            (Path(folder) / "build").mkdir()
            second = build.second_engine()
            if second is None:
                print("no engine with BuildKit can be had here: without uv on BuildKit", file=sys.stderr)
            tables.append(build.main(Path(folder) / "build", packages, runs=options.runs, second=second))
    text = "\n".join(tables)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / f"{options.list}.md").write_text(text)
    print(text)


main()
