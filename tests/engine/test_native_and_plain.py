"""A real list of packages, composed and built with pip by the engine's builder: two images that are used the same way.

What may differ is named here, and nothing else does (``envlock/build/plain.py`` says why).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.engine.conftest import docker, remove_images
from tests.support.workspace import BASE, make_workspace

pytestmark = [pytest.mark.engine, pytest.mark.network]

# examples/wine, and: .pth files (setuptools), compiled extensions, namespaces (zope, jaraco), headers (greenlet),
# data files (widgetsnbextension), scripts that are files of the wheel, some without a console script (docutils)
SPEC = f"""\
name: both
base: {BASE}
python: "3.11"
pip:
  - scikit-learn==1.7.0
  - mlflow-skinny
  - setuptools
  - zope.interface
  - zope.event
  - jaraco.text
  - greenlet
  - widgetsnbextension
  - docutils==0.18.1
seeds: {{seed: 42}}
env: {{TRICKY: 'a$HOME "q"'}}
image: {{repository: REPOSITORY, entrypoint: [env, --], labels: {{org.example.note: "a $b"}}}}
project: {{include: [train.py]}}
"""
PROBE = Path(__file__).parents[1] / "support" / "environment_probe.py"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    repository = f"envlock-test/both-{os.urandom(4).hex()}"
    work = make_workspace(tmp_path_factory.mktemp("both"), **_index())
    work.write("envlock.yaml", SPEC.replace("REPOSITORY", repository))
    work.write("train.py", "print('trains')\n")
    work.envlock("lock")
    native = work.envlock("build", "--no-record", "--json", "--tag", "native").json
    plain = work.envlock("build", "--no-record", "--json", "--tag", "plain", "--plain").json
    assert native["image_id"] != plain["image_id"]
    yield f"{repository}:native", f"{repository}:plain"
    remove_images(repository)


def _index() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PIP_INDEX_URL",) if name in os.environ}


@pytest.fixture(scope="module")
def inside(images: tuple[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what each of the two says of itself."""
    native, plain = (probed(image) for image in images)
    return native, plain


def probed(image: str) -> dict[str, Any]:
    argv = ["docker", "run", "--rm", "--interactive", "--network", "none", image, "python", "-"]
    done = subprocess.run(argv, input=PROBE.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_same_packages(inside: tuple[dict[str, Any], dict[str, Any]], images: tuple[str, str]) -> None:
    native, plain = inside
    assert len(native["packages"]) > 46
    assert native["packages"] == plain["packages"]
    asked = {line.strip("- ").split("==")[0] for line in SPEC.splitlines() if line.startswith("  - ")}
    assert set(map(canonicalize_name, native["requested"])) == set(map(canonicalize_name, asked))
    assert len(plain["requested"]) == len(plain["packages"])  # pip got them all by name
    pins = [docker("run", "--rm", image, "cat", "/opt/envlock/requirements.txt") for image in images]
    assert pins[0] == pins[1]
    locked = {line.split()[0] for line in pins[0].splitlines() if line[:1].isalnum()}
    assert {f"{canonicalize_name(name)}=={version}" for name, version in map(split, native["packages"])} == locked


def split(line: str) -> list[str]:
    return line.split("==")


def test_the_same_programs(inside: tuple[dict[str, Any], dict[str, Any]]) -> None:
    native, plain = inside
    assert native["scripts"] == plain["scripts"]
    assert len(native["scripts"]) > 10
    for name, (first, executable, _) in native["scripts"].items():
        assert first == "#!/opt/venv/bin/python\n", name
        assert executable, name
    assert native["scripts"]["mlflow"][2] == "fine"
    assert native["files"]["bin/rst2html.py"][1] == "755"


def test_the_same_modules_can_be_imported(inside: tuple[dict[str, Any], dict[str, Any]]) -> None:
    native, plain = inside
    assert native["modules"] == plain["modules"]
    fine = {name for name, said in native["modules"].items() if said == "fine"}
    assert {"sklearn", "mlflow", "zope.interface", "jaraco.text", "greenlet", "setuptools", "numpy"} <= fine
    assert len(fine) > 0.9 * len(native["modules"])


def test_the_same_files(inside: tuple[dict[str, Any], dict[str, Any]]) -> None:
    native, plain = (one["files"] for one in inside)
    assert len(native) > 5000
    different = []
    for path in sorted(native.keys() | plain.keys()):
        ours, pips = native.get(path), plain.get(path)
        if ours is not None and pips is not None:
            same = ours == pips or (ours[:3] == pips[:3] and same_content(path, ours[3], pips[3]))
        elif path.endswith(".pyc"):
            # pip cannot load a codec while it installs, and leaves files in rare encodings uncompiled
            same = pips is None and source_of(path) in inside[0]["encodings"]
        else:
            # pip was given all packages by name; of ours, only what the spec asks for is "requested" (PEP 376)
            same = ours is None and path.endswith(".dist-info/REQUESTED")
        if not same:
            different.append(f"{path}: {ours} for {pips}")
    assert different == []
    assert inside[0]["records"] == inside[1]["records"]  # but for lines of the files above


def same_content(path: str, ours: str, pips: str) -> bool:
    if path.endswith(".dist-info/RECORD"):
        return True  # compared line by line
    # compiled from the same source to the same code; ours is not held against its source at each import (PEP 552)
    return path.endswith(".pyc") and ours.split() == ["1", pips.removeprefix("3 ")] and pips.startswith("3 ")


def source_of(compiled: str) -> str:
    folder, _, name = compiled.rpartition("/__pycache__/")
    return f"{folder}/{name.partition('.')[0]}.py"


def test_containers_start_the_same_way(inside: tuple[dict[str, Any], dict[str, Any]], images: tuple[str, str]) -> None:
    native, plain = inside
    for part in ("environment", "process", "folders"):
        assert native[part] == plain[part], part
    configs = [json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image)) for image in images]
    for name in ("User", "WorkingDir", "Entrypoint", "Labels", "Cmd", "ExposedPorts", "Volumes", "StopSignal"):
        assert configs[0].get(name) == configs[1].get(name), name
    assert sorted(configs[0]["Env"]) == sorted(configs[1]["Env"])
    assert configs[0]["Entrypoint"] == ["env", "--"]
    assert docker("run", "--rm", images[0], "python", "train.py") == "trains\n"
