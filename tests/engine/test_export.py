"""Exports, built by other builders than ours, with no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.engine import DockerEngine
from envlock.adapters.project import read_project
from envlock.export import export
from envlock.model.plan import Plan
from envlock.model.spec import ImageOptions, ProjectFiles
from tests.support.building import Goods, lock_on, plan_of
from tests.support.debs import make_deb
from tests.support.progress import Remembering

pytestmark = pytest.mark.engine

ENGINE = Path(__file__).parent.parent.parent / ".ci" / "engine"
BASE = "127.0.0.1:5000/envlock/base:py3.11"
QUESTION = """
import importlib.metadata, json, os, sys, tiny_x
print(json.dumps({
    "version": tiny_x.VERSION,
    "packages": sorted(found.metadata["Name"] for found in importlib.metadata.distributions()),
    "deb": open("/usr/share/tiny-tool/version").read(),
    "user": [os.getuid(), os.getgid(), os.environ["HOME"], os.getcwd(), os.access(".", os.W_OK)],
    "env": os.environ["TRICKY"],
    "project": open("train.py").read(),
    "pyc": open(tiny_x.__cached__, "rb").read(8)[4],
}))
"""
ANSWER = {
    "version": "1.0",
    "packages": ["tiny-x"],
    "deb": "1:2.0-1",
    "user": [4321, 4321, "/home/someone", "/srv/train", True],
    "env": "a$HOME \"q\" 'x' \\",
    "project": "print()\n",
    "pyc": 3,  # PEP 552: checked by its source's hash
}


@pytest.fixture(scope="module")
def plan_and_folder(tmp_path_factory) -> Iterator[tuple[Plan, Path]]:
    place = tmp_path_factory.mktemp("export")
    engine, goods = DockerEngine(os.environ), Goods()
    lock = lock_on(
        engine,
        BASE,
        goods,
        wheels=(goods.wheel("tiny-x"),),
        debs=(goods.deb(make_deb("tiny-tool", "1:2.0-1")),),
        env={"TRICKY": ANSWER["env"]},
        image=ImageOptions(repository="envlock-export-test/export", user="someone", uid=4321, workdir="/srv/train"),
    )
    pinned = next(name for name in engine.find(BASE).digests if name.startswith("127.0.0.1:5000/envlock/base@"))
    repository, _, digest = pinned.partition("@")
    lock = replace(lock, base=replace(lock.base, repository=repository, manifest_digest=digest))
    (place / "train.py").write_text("print()\n")
    project = read_project(place, ProjectFiles(include=("train.py",)), source_date_epoch=0, warn=pytest.fail)
    plan = plan_of(lock, project)
    export(
        plan,
        place / "out",
        wanted=goods.wanted(),
        artifacts=ArtifactStore(place / "artifacts"),
        project=place,
        force=False,
        progress=Remembering(),
    )
    yield plan, place / "out"
    engine.close()


def build_and_ask(
    *program: str,
    folder: Path,
    options: tuple[str, ...] = (),
    run_options: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
) -> dict:
    name = "envlock-export-test/export:try"
    settings = {**os.environ, **(env or {})}
    built = subprocess.run(
        [*program, "build", "--network", "none", *options, "-t", name, str(folder)],
        capture_output=True,
        text=True,
        env=settings,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    try:
        asked = [*program, "run", "--rm", "--network", "none", *run_options, name, "python", "-c", QUESTION]
        return json.loads(subprocess.run(asked, capture_output=True, text=True, check=True, env=settings).stdout)
    finally:
        subprocess.run([*program, "rmi", "-f", name], capture_output=True, check=True, env=settings)


def test_the_classic_builder(plan_and_folder):
    _, folder = plan_and_folder
    assert build_and_ask("docker", folder=folder, env={"DOCKER_BUILDKIT": "0"}) == ANSWER


@pytest.mark.second_engine
def test_buildkit(plan_and_folder):
    _, folder = plan_and_folder
    lines = subprocess.run([ENGINE, "env"], capture_output=True, text=True, check=True).stdout.splitlines()
    known = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    second = {"DOCKER_HOST": known["ENVLOCK_DEV_SECOND_HOST"], "DOCKER_CONFIG": known["ENVLOCK_DEV_SECOND_CONFIG"]}
    if subprocess.run(["docker", "version"], check=False, capture_output=True, env={**os.environ, **second}).returncode:
        pytest.skip("the second engine, which has BuildKit, does not run (.ci/engine second up)")
    assert build_and_ask("docker", folder=folder, env={**second, "DOCKER_BUILDKIT": "1"}) == ANSWER


# The limits that podman asks for by itself are above what some machines allow.
@pytest.mark.skipif(shutil.which("podman") is None, reason="this machine has no podman")
def test_podman(plan_and_folder):
    _, folder = plan_and_folder
    options = ("--tls-verify=false", "--layers=false")
    assert (
        build_and_ask(
            "podman",
            folder=folder,
            options=options,
            run_options=("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=512:512"),
        )
        == ANSWER
    )


def test_what_was_changed_after_the_export_is_noticed(plan_and_folder, tmp_path):
    _, folder = plan_and_folder
    for part, said in (("wheels", "DO NOT MATCH THE HASHES"), ("apt", "FAILED")):
        copy = tmp_path / part
        shutil.copytree(folder, copy)
        victim = next(path for path in (copy / part).iterdir() if path.suffix in {".whl", ".deb"})
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
        done = subprocess.run(
            ["docker", "build", "--force-rm", "--network", "none", str(copy)],
            capture_output=True,
            text=True,
            env={**os.environ, "DOCKER_BUILDKIT": "0"},
            check=False,
        )
        assert done.returncode != 0
        assert said in done.stdout + done.stderr
