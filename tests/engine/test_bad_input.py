"""What goes wrong, on the real engine: a clear message, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.index_server import Index
from tests.support.mlflow_servers import free_port, mlflow_server, refusing_server
from tests.support.packages import wheel
from tests.support.workspace import BASE, NO_PYTHON, REGISTRY, Answer, Workspace

pytestmark = pytest.mark.engine

SPEC = """\
name: bad
base: {base}
python: "{python}"
pip: [{pip}]
apt: [{apt}]
image: {{repository: {repository}}}
"""


@pytest.fixture
def spec(workspace: Workspace, repository: str) -> Callable[..., None]:
    def write(**members: str) -> None:
        defaults = {"base": BASE, "python": "3.11", "pip": "learn", "apt": "", "repository": repository}
        workspace.write("envlock.yaml", SPEC.format(**defaults | members))

    return write


def refused(workspace: Workspace, *arguments: str, code: int, says: list[str], **env: str) -> Answer:
    """Run a command that must fail: with this code, saying all of this, and leaving every file as it was."""
    before = {path: path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file()}
    answer = workspace.envlock(*arguments, code=code, env=env)
    after = {path: path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file()}
    assert after == before
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: ") or "\nerror: " in answer.stderr
    for text in says:
        assert text in answer.stderr
    return answer


# --- the engine -------------------------------------------------------------------------------------------------------


def test_no_engine(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec()
    refused(workspace, "lock", code=3, says=["engine", "hint:"], DOCKER_HOST="unix:///nowhere/docker.sock")
    refused(workspace, "lock", code=3, says=["engine", "hint:"], DOCKER_HOST=f"tcp://127.0.0.1:{free_port()}")


def test_an_engine_that_refuses_us(workspace: Workspace, spec: Callable[..., None], tmp_path: Path) -> None:
    spec()
    locked_away = tmp_path / "docker.sock"
    # root may do anything: without that capability it is somebody like all others
    plain_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(locked_away))
        listener.listen()
        locked_away.chmod(0)
        done = subprocess.run(
            [*plain_user, sys.executable, "-m", "envlock", "lock"],
            cwd=workspace.folder,
            env={**workspace.env, "DOCKER_HOST": f"unix://{locked_away}"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    assert "permission" in done.stderr.lower()
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


# --- the base ---------------------------------------------------------------------------------------------------------


def test_an_unknown_base_tag(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec(base=f"{REGISTRY}/envlock/base:no-such-tag")
    refused(workspace, "lock", code=2, says=["no-such-tag", "hint:"])


def test_a_base_without_python(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec(base=NO_PYTHON)
    refused(workspace, "lock", code=2, says=["Python", "hint:"])


def test_a_base_with_another_python(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec(python="3.12")
    refused(workspace, "lock", code=2, says=["3.11.2", "3.12", 'python: "3.11"'])


# --- packages ---------------------------------------------------------------------------------------------------------


def test_an_apt_package_that_does_not_exist(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec(apt="gti")
    refused(workspace, "lock", code=2, says=["gti", "git"])


def test_an_apt_version_that_does_not_exist(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec(apt='"git=1:2.0.0-1"')
    refused(workspace, "lock", code=2, says=["git", "1:2.0.0-1", "1:2.39"])


def test_requirements_that_conflict(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec(pip="learn==1.0, numlib==2.0")
    answer = refused(workspace, "lock", code=2, says=["learn", "numlib", "numlib<2"])
    assert len(answer.stderr.splitlines()) < 40


def test_a_package_that_does_not_exist(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec(pip="no-such-package")
    refused(workspace, "lock", code=2, says=["no-such-package"])


def test_a_dependency_by_direct_url(workspace: Workspace, index: Index, spec: Callable[..., None]) -> None:
    index.add(wheel("direct", "1.0", requires=["other @ https://example.org/other-1.0-py3-none-any.whl"]))
    spec(pip="direct")
    refused(workspace, "lock", code=2, says=["direct 1.0", "other", "direct URL", "hint:"])


def test_a_push_to_nowhere(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec(repository="nowhere")
    workspace.envlock("lock")
    refused(workspace, "build", "--push", code=2, says=["names no registry", "hint:"])


def test_no_wheel_for_the_target(workspace: Workspace, index: Index, spec: Callable[..., None]) -> None:
    index.add(wheel("winonly", "1.0", tag="cp311-cp311-win_amd64"))
    spec(pip="winonly")
    refused(workspace, "lock", code=2, says=["winonly", "win_amd64"])


def test_a_file_whose_hash_is_not_the_locks(workspace: Workspace, index: Index, spec: Callable[..., None]) -> None:
    spec()
    workspace.envlock("lock")
    name = next(entry["filename"] for entry in workspace.lock()["wheels"] if entry["name"] == "learn")
    index.switches.wrong_bytes = {name}
    refused(workspace, "build", "--no-record", code=3, says=[name, "sha256"])


# --- the lock ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(workspace: Workspace, spec: Callable[..., None]) -> Path:
    spec()
    workspace.envlock("lock")
    return workspace.folder / "envlock.lock"


def test_a_lock_that_was_edited(workspace: Workspace, locked: Path) -> None:
    locked.write_text(locked.read_text().replace('"version": "2.0"', '"version": "1.0"'))
    refused(workspace, "build", code=2, says=["edited by hand", "hint:"])


def test_a_truncated_lock(workspace: Workspace, locked: Path) -> None:
    locked.write_text(locked.read_text()[:1000])
    refused(workspace, "build", code=2, says=["envlock.lock:", "not a complete lock", "hint:"])
    refused(workspace, "lock", code=2, says=["envlock.lock:", "hint:"])


def test_a_lock_of_a_newer_format(workspace: Workspace, locked: Path) -> None:
    document = json.loads(locked.read_text())
    document["envlock"]["format"] = 99
    locked.write_text(json.dumps(document))
    refused(workspace, "build", code=2, says=["newer", "upgrade envlock"])


# --- the spec ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", ["envlock.yaml:1:1", "mapping"]),
        ("name: a\nname: b\nbase: x\n", ["envlock.yaml:2:1", "name"]),
        ("name:\n\t- a\n", ["envlock.yaml:2:1", "tab"]),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\nname: &n z\n", ["envlock.yaml"]),
        ('name: d\nbase: b\npython: "3.11"\npip: ["numpy; rm -rf /"]\n', ["envlock.yaml:4:"]),
        ('name: d\nbase: b\npython: "3.11"\napt: ["git$(id)"]\n', ["envlock.yaml:4:", "git$(id)"]),
        ('name: d\nbase: "b\\nRUN id"\npython: "3.11"\n', ["envlock.yaml:2:"]),
        ('name: d\nbase: b\npython: "3.11"\nimage: {user: "root; id"}\npipp: []\n', ["4:", "5:", "pip"]),
    ],
)
def test_faults_of_the_spec(workspace: Workspace, text: str, says: list[str]) -> None:
    workspace.write("envlock.yaml", text)
    refused(workspace, "lock", code=2, says=says)


# --- the world --------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_while_fetching(workspace: Workspace, index: Index, spec: Callable[..., None]) -> None:
    index.add(wheel("big", "1.0", files={"big.bin": os.urandom(400_000).hex()}))
    spec(pip="big")
    workspace.envlock("lock")
    cache = workspace.folder.parent / "small"
    cache.mkdir()
    done = subprocess.run(
        # a mount of our own, which ends with the process
        [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            'mount -t tmpfs -o size=128k none "$1" && shift && exec "$@"',
            "sh",
            str(cache),
            sys.executable,
            "-m",
            "envlock",
            "build",
            "--no-record",
        ],
        cwd=workspace.folder,
        env={**workspace.env, "ENVLOCK_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "No space left" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_mlflow_that_cannot_be_reached_loses_nothing(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec()
    port = free_port()
    away = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    answer = workspace.envlock("build", "--json", code=3, env=away)
    assert answer.json["image_id"]
    assert answer.json["run_id"] is None
    assert "envlock record --pending" in answer.stderr
    waiting = workspace.envlock("record", "--pending", "--json", code=3)
    assert len(waiting.json["waiting"]) == 1
    with mlflow_server(workspace.folder.parent / "server", port=port):
        delivered = workspace.envlock("record", "--pending", "--json").json
        assert (len(delivered["delivered"]), delivered["waiting"]) == (1, [])
        assert workspace.envlock("record", "--pending", "--json").json == {"delivered": [], "waiting": []}
        run = delivered["delivered"][0]["run_id"]
        assert "learn" in workspace.envlock("show", run, env=away).stdout


def test_mlflow_that_refuses_loses_nothing(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec()
    with refusing_server(403) as url:
        answer = workspace.envlock("build", code=3, env={"MLFLOW_TRACKING_URI": url})
    assert "403" in answer.stderr or "refuse" in answer.stderr
    assert "envlock record --pending" in answer.stderr


def test_a_registry_that_refuses(workspace: Workspace, spec: Callable[..., None], repository: str) -> None:
    with refusing_server(401) as url:
        spec(repository=f"{url.removeprefix('http://')}/{repository}")
        answer = workspace.envlock("build", "--push", "--no-record", code=3)
    assert "hint:" in answer.stderr


def test_a_registry_that_cannot_be_reached(workspace: Workspace, spec: Callable[..., None], repository: str) -> None:
    spec(repository=f"127.0.0.1:{free_port()}/{repository}")
    answer = workspace.envlock("build", "--push", "--no-record", code=3)
    assert "cannot be reached" in answer.stderr
    assert "hint:" in answer.stderr


def test_two_builds_of_one_lock_at_the_same_time(workspace: Workspace, spec: Callable[..., None]) -> None:
    spec()
    workspace.envlock("lock")
    answers: list[Answer] = []
    builds = [
        threading.Thread(target=lambda: answers.append(workspace.envlock("build", "--no-record", "--json")))
        for _ in range(2)
    ]
    for build in builds:
        build.start()
    for build in builds:
        build.join()
    assert len({answer.json["image_id"] for answer in answers}) == 1
