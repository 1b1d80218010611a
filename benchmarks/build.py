"""Build time, with one pin changed and with nothing changed: envlock, a Dockerfile with pip, uv on BuildKit.

The pin that changes is that of a tiny package made here, so that every run is new to every cache. pip and uv are
given what their users would have: the same pins; for uv a warm cache mount. The classic builder's users have no cache
for pip, as each RUN starts without one.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path

from benchmarks.measure import Way, command, compare
from tests.support.building import pip_bytes
from tests.support.packages import save, wheel

BASE = "127.0.0.1:5000/envlock/base:py3.11"
SPEC = """\
name: envlock-bench
base: {base}
python: "3.11"
pip: {{packages: {packages}, find_links: {{made: made}}}}
"""
PIP = """\
FROM {base}
ENV PIP_CERT=/ca.pem{index}
COPY ca.pem /ca.pem
COPY pip.whl /tmp/pip-{pip}-py3-none-any.whl
RUN python3 -m venv --without-pip /opt/venv
COPY requirements.txt made /tmp/made/
RUN /opt/venv/bin/python /tmp/pip-{pip}-py3-none-any.whl/pip install --no-cache-dir --find-links /tmp/made \
    -r /tmp/made/requirements.txt
"""
UV = """\
FROM {base}
ENV SSL_CERT_FILE=/ca.pem{index}
COPY ca.pem /ca.pem
COPY uv /usr/local/bin/uv
RUN python3 -m venv --without-pip /opt/venv
COPY requirements.txt made /tmp/made/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/venv/bin/python --compile-bytecode --find-links /tmp/made -r /tmp/made/requirements.txt
"""
_runs = itertools.count(int(time.time()))


class Bench:
    """A folder with the three ways side by side."""

    def __init__(self, folder: Path, packages: list[str], *, second: dict[str, str] | None) -> None:
        self.folder = folder
        self.packages = packages
        self.second = second
        self.envlock = [sys.executable, "-m", "envlock"]
        self.env = {
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            "ENVLOCK_CACHE_DIR": str(folder / "cache"),
            "ENVLOCK_STATE_DIR": str(folder / "state"),
        }
        self.prepare_files()

    def prepare_files(self) -> None:
        """Write what does not change between runs."""
        (self.folder / "made").mkdir()
        bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
        (self.folder / "ca.pem").write_bytes(Path(bundle).read_bytes() if bundle else _certifi())
        (self.folder / "pip.whl").write_bytes(pip_bytes())
        index = os.environ.get("PIP_INDEX_URL", "")
        for name, text in (("pip", PIP), ("uv", UV)):
            setting = {"pip": "PIP_INDEX_URL", "uv": "UV_DEFAULT_INDEX"}[name]
            filled = text.format(
                base=BASE, pip=distribution("pip").version, index=f" {setting}={index}" if index else ""
            )
            (self.folder / f"Dockerfile.{name}").write_text(filled)
        if self.second:
            shutil.copy(_uv(), self.folder / "uv")
        (self.folder / ".dockerignore").write_text("cache\nstate\n")

    def change_one_pin(self) -> None:
        """Give the tiny package a new version, and lock."""
        for old in (self.folder / "made").iterdir():
            old.unlink()
        tiny = wheel("tiny", f"1.{next(_runs)}")
        save(tiny, self.folder / "made")
        (self.folder / "envlock.yaml").write_text(
            SPEC.format(base=BASE, packages=json.dumps([*self.packages, f"tiny=={tiny.version}"]))
        )
        command([*self.envlock, "lock"], cwd=self.folder, env=self.env)
        lock = json.loads((self.folder / "envlock.lock").read_text())
        pins = [f"{entry['name']}=={entry['version']}\n" for entry in lock["wheels"]]
        (self.folder / "requirements.txt").write_text("".join(pins))

    def build(self) -> None:
        """Build with envlock."""
        command([*self.envlock, "build", "--no-record"], cwd=self.folder, env=self.env)

    def build_with_pip(self) -> None:
        """Build the hand-written Dockerfile."""
        self._docker_build("pip", env={"DOCKER_BUILDKIT": "0"})

    def build_with_uv(self) -> None:
        """Build the hand-written Dockerfile with uv and a cache mount."""
        self._docker_build("uv", env={"DOCKER_BUILDKIT": "1", **(self.second or {})})

    def _docker_build(self, name: str, *, env: dict[str, str]) -> None:
        argv = ["docker", "build", "--network", "host", "-f", f"Dockerfile.{name}", "-t", f"envlock-bench:{name}", "."]
        command(argv, cwd=self.folder, env=env)

    def ways(self) -> list[Way]:
        """Return all ways that this machine has."""
        ways = [
            Way(name="envlock build --plain", run=self.build, prepare=self.change_one_pin),
            Way(name="Dockerfile with pip", run=self.build_with_pip),
        ]
        if self.second:
            ways.append(Way(name="Dockerfile with uv, BuildKit, warm cache mount", run=self.build_with_uv))
        return ways


def main(folder: Path, packages: list[str], *, runs: int, second: dict[str, str] | None) -> str:
    """Return the tables."""
    bench = Bench(folder, packages, second=second)
    bench.change_one_pin()
    for way in bench.ways():  # once unmeasured: wheels, base images and cache mounts are warm
        way.run()
    count = len(json.loads((folder / "envlock.lock").read_text())["wheels"])
    changed = compare(f"Build, one pin of {count} changed", bench.ways(), runs=runs)
    unchanged = [Way(name=way.name, run=way.run) for way in bench.ways()]
    tables = [changed, compare("Build, nothing changed", unchanged, runs=runs)]
    _remove_images()
    return "\n".join(tables)


def second_engine() -> dict[str, str] | None:
    """Start the engine that has BuildKit, if this machine can have it, and return how to reach it."""
    script = Path(__file__).resolve().parents[1] / ".ci" / "engine"
    if subprocess.run([script, "second", "up"], check=False, capture_output=True).returncode != 0:
        return None
    lines = command([script, "env"], cwd=Path.cwd()).replace("export ", "").splitlines()
    values = {name: value.strip("'\"") for name, _, value in (line.partition("=") for line in lines)}
    return {"DOCKER_HOST": values["ENVLOCK_DEV_SECOND_HOST"], "DOCKER_CONFIG": values["ENVLOCK_DEV_SECOND_CONFIG"]}


def _remove_images() -> None:
    names = command(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "envlock-bench"], cwd=Path.cwd())
    if names.split():
        subprocess.run(["docker", "rmi", "--force", *names.split()], check=False, capture_output=True)


def _certifi() -> bytes:
    import certifi  # noqa: PLC0415 - requests brings it

    return Path(certifi.where()).read_bytes()


def _uv() -> str:
    import uv  # noqa: PLC0415 - a development tool

    return uv.find_uv_bin()
