"""Spec → lock → image → run → diff, through the command line, on the real engine and a real MLflow store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.support.index_server import Index
from tests.support.packages import wheel
from tests.support.workspace import BASE, BASE_313, REGISTRY, Workspace

pytestmark = pytest.mark.engine

SPEC = """\
name: job
base: {base}
python: "{python}"
pip: [{pip}]
seeds: {{seed: 42}}
image: {{repository: {repository}, tags: [latest]}}
mlflow: {{experiment: job, params: [learn, numlib]}}
"""


def write_spec(
    workspace: Workspace, repository: str, *, pip: str = "learn", base: str = BASE, python: str = "3.11"
) -> None:
    workspace.write("envlock.yaml", SPEC.format(repository=repository, pip=pip, base=base, python=python))


def test_from_spec_to_diff(workspace: Workspace, repository: str, docker: Callable[..., str]) -> None:
    write_spec(workspace, repository, pip="learn==1.0")
    first = workspace.envlock("build", "--json").json
    assert first["image"] == f"{repository}:env-{first['fingerprint'][:12]}"
    assert first["manifest_digest"] is None
    assert {"image", "image_id", "manifest_digest", "fingerprint", "run_id", "seconds"} <= first.keys()
    assert workspace.pins() == {"learn": "1.0", "numlib": "1.1"}
    freeze = docker(
        "run", "--rm", first["image"], "python", "-c", "import learn, numlib, os; print(os.environ['SEED'])"
    )
    assert freeze.strip() == "42"

    again = workspace.envlock("build", "--no-record", "--json")
    assert again.json["image_id"] == first["image_id"]

    write_spec(workspace, repository, pip="learn==2.0")
    assert workspace.envlock("lock", "--check", code=1).stdout
    stale = workspace.envlock("build", code=2)
    assert "learn==2.0" in stale.stderr
    workspace.envlock("lock")
    # the change asked for learn; numlib 1.1 still fits and stays
    assert workspace.pins() == {"learn": "2.0", "numlib": "1.1"}
    second = workspace.envlock("build", "--json").json
    assert second["fingerprint"] != first["fingerprint"]

    runs = workspace.envlock("diff", first["run_id"], second["run_id"], "--json", code=1).json
    images = workspace.envlock("diff", first["image"], second["image"], code=1).stdout
    assert "learn" in json.dumps(runs)
    assert re.search(r"learn +1\.0", images)
    assert workspace.envlock("diff", second["run_id"], "envlock.lock", code=0).stdout
    shown = workspace.envlock("show", second["run_id"]).stdout
    assert "numlib" in shown
    assert "3.11" in shown


def test_locking_twice_gives_the_same_bytes_and_asks_nobody(
    workspace: Workspace, index: Index, repository: str
) -> None:
    write_spec(workspace, repository)
    workspace.envlock("lock")
    before = (workspace.folder / "envlock.lock").read_bytes()
    asked = len(index.requests)
    assert "unchanged" in workspace.envlock("lock").stdout
    assert workspace.envlock("lock", "--check").code == 0
    assert (workspace.folder / "envlock.lock").read_bytes() == before
    assert len(index.requests) == asked
    (workspace.folder / "envlock.lock").unlink()
    workspace.envlock("lock")
    assert (workspace.folder / "envlock.lock").read_bytes() == before


def test_only_what_is_asked_for_moves(workspace: Workspace, index: Index, repository: str) -> None:
    write_spec(workspace, repository, pip="learn, tracker")
    workspace.envlock("lock")
    assert workspace.pins() == {"learn": "2.0", "numlib": "2.0", "tracker": "3.1"}
    index.add(wheel("tracker", "3.2", requires=["numlib"]), wheel("numlib", "2.1"))
    workspace.envlock("lock", "--upgrade-package", "tracker")
    assert workspace.pins() == {"learn": "2.0", "numlib": "2.0", "tracker": "3.2"}
    write_spec(workspace, repository, pip="learn")
    workspace.envlock("lock")
    assert workspace.pins() == {"learn": "2.0", "numlib": "2.0"}
    workspace.envlock("lock", "--upgrade")
    assert workspace.pins() == {"learn": "2.0", "numlib": "2.1"}


def test_a_change_that_resolves_nothing_needs_no_engine(workspace: Workspace, repository: str) -> None:
    write_spec(workspace, repository)
    workspace.envlock("lock")
    spec = (workspace.folder / "envlock.yaml").read_text().replace("seed: 42", "seed: 43")
    workspace.write("envlock.yaml", spec)
    workspace.envlock("lock", env={"DOCKER_HOST": "unix:///nowhere.sock"})
    assert workspace.lock()["seeds"]["seed"] == 43


def test_the_lock_is_for_the_base_and_not_for_this_machine(workspace: Workspace, index: Index, repository: str) -> None:
    index.add(
        wheel("native", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64"),
        wheel("native", "1.0", tag="cp313-cp313-manylinux_2_17_x86_64"),
        wheel("native", "1.0", tag="cp313-cp313-manylinux_2_99_x86_64"),
        wheel("gated", "1.0"),
        wheel("gated", "2.0", requires_python=">=3.12"),
    )
    for base, python, tag, gated in ((BASE, "3.11", "cp311", "1.0"), (BASE_313, "3.13", "cp313", "2.0")):
        write_spec(workspace, repository, pip="native, gated", base=base, python=python)
        workspace.envlock("lock", "--upgrade")
        files = {entry["name"]: entry["filename"] for entry in workspace.lock()["wheels"]}
        assert files["native"] == f"native-1.0-{tag}-{tag}-manylinux_2_17_x86_64.whl"
        assert workspace.pins()["gated"] == gated


def test_a_lock_alone_is_enough_to_build(workspace: Workspace, repository: str) -> None:
    write_spec(workspace, repository)
    workspace.envlock("lock")
    (workspace.folder / "envlock.yaml").unlink()
    built = workspace.envlock("build", "--no-record", "--json").json
    assert built["image"].startswith(f"{repository}:env-")


def test_a_local_image_is_pinned_by_its_id(workspace: Workspace, repository: str, docker: Callable[..., str]) -> None:
    local = f"{repository}:local-base"
    docker("tag", BASE, local)
    write_spec(workspace, repository, base=local)
    answer = workspace.envlock("build", "--no-record", "--json")
    assert "image ID" in answer.stderr
    base = workspace.lock()["base"]
    assert base["image_id"] == docker("image", "inspect", "--format", "{{.Id}}", BASE).strip()
    assert "manifest_digest" not in base


def test_a_pushed_image_keeps_the_digest_that_the_registry_acknowledged(
    workspace: Workspace, repository: str, docker: Callable[..., str]
) -> None:
    write_spec(workspace, f"{REGISTRY}/{repository}")
    built = workspace.envlock("build", "--push", "--json").json
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", built["manifest_digest"])
    pinned = f"{REGISTRY}/{repository}@{built['manifest_digest']}"
    docker("rmi", "--force", built["image"], f"{REGISTRY}/{repository}:latest")
    docker("pull", pinned)
    assert docker("image", "inspect", "--format", "{{.Id}}", pinned).strip() == built["image_id"]
    docker("rmi", "--force", pinned)


def test_credentials_of_the_index_are_used_and_written_nowhere(
    workspace: Workspace, index: Index, repository: str, docker: Callable[..., str]
) -> None:
    index.switches.auth = ("reader", "s3cret-t0ken")
    write_spec(workspace, repository)
    refused = workspace.envlock("lock", code=3)
    assert "401" in refused.stderr or "credentials" in refused.stderr
    answer = workspace.envlock("build", "--json", env={"PIP_INDEX_URL": index.url_with("reader", "s3cret-t0ken")})
    image = answer.json["image"]
    everything = (
        answer.stdout + answer.stderr + docker("image", "inspect", image) + docker("history", "--no-trunc", image)
    )
    for path in workspace.folder.parent.rglob("*"):
        if path.is_file():
            everything += path.read_bytes().decode("latin-1")
    assert "s3cret" not in everything
