"""Whole builds on the real engine, from locks made by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.adapters.project import read_project
from envlock.build import Wishes, build
from envlock.errors import BuildFailed, EngineError, EnvlockError, InputError, StorageError, WorldError
from envlock.formats.context import ContextFile, tar_stream
from envlock.model.image import Image
from envlock.model.plan import Plan, Project
from envlock.model.spec import ImageOptions, ProjectFiles, Seeds
from tests.support.building import Goods, lock_on, plan_of, workshop
from tests.support.debs import make_deb
from tests.support.progress import Remembering

pytestmark = pytest.mark.engine

BASE = "envlock/base:py3.11"
OURS = "envlock-build-test"


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    found = DockerEngine(os.environ)
    forget_images(found)
    yield found
    forget_images(found)
    found.close()


@pytest.fixture
def goods() -> Goods:
    return Goods()


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def forget_images(engine: DockerEngine) -> None:
    for name in docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"{OURS}/*").split():
        engine.remove(name)


@pytest.fixture
def own_base(engine) -> Iterator[str]:
    """Give a base that nobody else builds on: whatever has its label or comes from it was made by this test."""
    mark = uuid.uuid4().hex
    text = f"FROM {BASE}\nLABEL org.example.mark={mark}\n".encode()
    with tar_stream([ContextFile(path="Dockerfile", content=text, size=len(text))]) as context:
        image_id = engine.build(context, platform="linux/amd64", on_line=lambda _: None)
    name = f"{OURS}/base:{mark}"
    engine.tag(image_id, name)
    yield name
    assert leftovers(name) == ([], [image_id])


def leftovers(base: str) -> tuple[list[str], list[str]]:
    """Return the containers and images that come from a base."""
    mark = base.rpartition(":")[2]
    return (
        docker("ps", "-aq", "--filter", f"ancestor={base}").split(),
        sorted(set(docker("images", "-aq", "--no-trunc", "--filter", f"label=org.example.mark={mark}").split())),
    )


@pytest.fixture(params=["native", "plain"])
def make(engine, tmp_path, request):
    """Build, in both ways."""

    def run(plan: Plan, goods: Goods, *, tags: Sequence[str] = (), engine: DockerEngine = engine) -> Image:
        return build(
            plan,
            workshop=workshop(engine, tmp_path, Remembering()),
            wanted=goods.wanted,
            project=tmp_path,
            wishes=Wishes(tags=tuple(tags), plain=request.param == "plain"),
        )

    run.plain = request.param == "plain"
    return run


def inside(image: Image, *argv: str) -> str:
    return docker("run", "--rm", "--network", "none", image.reference, *argv)


def test_a_whole_environment(engine, goods, make, tmp_path):
    lock = lock_on(
        engine,
        BASE,
        goods,
        wheels=(goods.wheel("tiny-a", "1.2"), goods.wheel("tiny-b", "0.1+local.1")),
        debs=(goods.deb(make_deb("tiny-tool", "1:2.0-1", depends="tiny-lib")), goods.deb(make_deb("tiny-lib", "0.5"))),
        env={"TRICKY": "a$HOME \"q\" 'x' \\ #!"},
        seeds=Seeds(seed=42, data_seed=7, cudnn_deterministic=True),
        image=ImageOptions(
            repository="envlock-build-test/whole",
            tags=("latest",),
            uid=1234,
            user="someone",
            labels={"org.example.note": 'a "b" $c\\'},
        ),
        project=ProjectFiles(include=("*",)),
    )
    image = make(plan_of(lock), goods)
    assert image.reference.startswith("envlock-build-test/whole:env-")
    assert image.installed.packages == {"tiny-a": "1.2", "tiny-b": "0.1+local.1"}
    found = engine.find("envlock-build-test/whole:latest")
    assert found.id == image.image_id
    assert found.labels["org.example.note"] == 'a "b" $c\\'
    assert found.labels["envlock.fingerprint"] == image.fingerprint
    assert found.labels["org.opencontainers.image.created"] == "1970-01-01T00:00:00Z"
    env = json.loads(inside(image, "python", "-c", "import os, json; print(json.dumps(dict(os.environ)))"))
    assert env["TRICKY"] == "a$HOME \"q\" 'x' \\ #!"
    assert env["PYTHONHASHSEED"] == "42"
    assert env["PATH"].startswith("/opt/venv/bin:")
    assert env["HOME"] == "/home/someone"
    assert inside(image, "sh", "-c", "id -u; id -un; pwd; touch here && echo written").split() == [
        "1234",
        "someone",
        "/workspace",
        "written",
    ]
    assert inside(image, "dpkg-query", "-W", "-f", "${Version}", "tiny-tool") == "1:2.0-1"
    assert inside(image, "sh", "-c", "ls -A /opt/envlock; ls /tmp").split() == ["envlock.lock", "requirements.txt"]
    steps = {"base", "fetch", "build", "verify", "tag"} if make.plain else {"layers", "load", "inspect", "tag"}
    assert set(image.seconds) == steps


def test_nothing_to_do_then_a_new_commit_then_a_new_file(engine, goods, make, tmp_path):
    lock = lock_on(
        engine, BASE, goods, wheels=(goods.wheel("tiny-c"),), image=ImageOptions(repository="envlock-build-test/again")
    )
    first = make(plan_of(lock), goods)
    again = make(plan_of(lock), Goods(), tags=["v2", "envlock-build-test/elsewhere:v2"])
    assert not first.reused
    assert again.reused
    assert (again.image_id, again.installed) == (first.image_id, first.installed)
    assert (
        engine.find("envlock-build-test/again:v2").id
        == engine.find("envlock-build-test/elsewhere:v2").id
        == first.image_id
    )

    committed = make(plan_of(lock, Project(revision="c" * 40, epoch=86400)), goods)
    assert not committed.reused
    assert committed.reference == first.reference
    assert engine.find(first.reference).labels["org.opencontainers.image.revision"] == "c" * 40
    assert engine.find(first.reference).labels["org.opencontainers.image.created"] == "1970-01-02T00:00:00Z"

    (tmp_path / "train.py").write_text("print('trains')\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\nexec python train.py\n")
    (tmp_path / "run.sh").chmod(0o700)
    project = read_project(
        tmp_path, ProjectFiles(include=("/train.py", "/run.sh")), source_date_epoch=0, warn=pytest.fail
    )
    assert inside(make(plan_of(lock, project), goods), "./run.sh") == "trains\n"


def test_without_any_package_and_with_a_pip_of_its_own(engine, goods, make, tmp_path):
    image = ImageOptions(repository="envlock-build-test/few", entrypoint=("python", "-c", "print('$HOME \"x\"')"))
    nothing = make(plan_of(lock_on(engine, BASE, goods, image=image)), goods)
    assert nothing.installed.packages == {}
    assert inside(nothing) == '$HOME "x"\n'

    pip = goods.pip()
    lock = lock_on(engine, BASE, goods, wheels=(goods.wheel("tiny-d"), pip), image=replace(image, entrypoint=()))
    with_pip = make(plan_of(lock), goods)
    assert with_pip.installed.packages == {"tiny-d": "1.0", "pip": pip.version}
    assert sorted(with_pip.installed.freeze.split()) == [f"pip=={pip.version}", "tiny-d==1.0"]


def test_another_python_and_a_user_number_that_the_base_has_taken(engine, goods, make, tmp_path):
    image = ImageOptions(repository="envlock-build-test/other", user="games2", uid=5, workdir="/srv/my work/$x")
    lock = lock_on(engine, "envlock/base:py3.13", goods, wheels=(goods.wheel("tiny-e"),), image=image)
    (tmp_path / "a file").write_text("x")
    project = read_project(tmp_path, ProjectFiles(include=("a file",)), source_date_epoch=None, warn=pytest.fail)
    built = make(plan_of(lock, project), goods)
    assert inside(built, "sh", "-c", "id -un; pwd; stat -c %u: *").splitlines() == ["games2", "/srv/my work/$x", "5:"]


@pytest.mark.parametrize(
    ("files", "python", "said"),
    [
        (
            {"tiny_f-1.0.data/purelib/ghost-9.0.egg-info/PKG-INFO": "Name: ghost\nVersion: 9.0\n"},
            None,
            ("ghost: not in", "another package"),
        ),
        ({"tiny_f.pth": "import sys; sys.exit('no luck')\n"}, None, ("no luck",)),
        ({}, "3.11.1", ("3.11.1",)),
    ],
    ids=["an extra package", "an environment that does not start", "another Python"],
)
def test_an_image_that_is_not_what_the_lock_says_gets_no_name(  # noqa: PLR0917
    engine, goods, make, own_base, tmp_path, files, python, said
):
    lock = lock_on(
        engine,
        own_base,
        goods,
        wheels=(goods.wheel("tiny-f", files={"tiny_f.py": "", **files}),),
        image=ImageOptions(repository="envlock-build-test/wrong"),
    )
    if python:
        lock = replace(lock, base=replace(lock.base, python=replace(lock.base.python, version=python)))
    with pytest.raises((WorldError, InputError)) as caught:
        make(plan_of(lock), goods)
    lines = (caught.value.message, *caught.value.details)
    assert any(words in line for words in said for line in lines), lines
    assert not docker("images", "-q", "envlock-build-test/wrong")


def test_a_failing_step_shows_its_own_output_and_leaves_nothing(engine, goods, make, own_base, tmp_path):
    broken = make_deb("tiny-broken", scripts={"postinst": "#!/bin/sh\necho the disk is on fire >&2\nexit 3\n"})
    lock = lock_on(
        engine, own_base, goods, debs=(goods.deb(broken),), image=ImageOptions(repository="envlock-build-test/failing")
    )
    with pytest.raises(BuildFailed) as caught:
        make(plan_of(lock), goods)
    assert any("the disk is on fire" in line for line in caught.value.details)


def test_a_project_file_that_changes_meanwhile_stops_the_build(engine, goods, make, own_base, tmp_path):
    (tmp_path / "data").write_text("before")
    project = read_project(tmp_path, ProjectFiles(include=("data",)), source_date_epoch=None, warn=pytest.fail)
    (tmp_path / "data").write_text("after!")
    lock = lock_on(engine, own_base, goods, image=ImageOptions(repository="envlock-build-test/changing"))
    with pytest.raises(StorageError, match="data changed while"):
        make(plan_of(lock, project), goods)


def test_a_local_base_that_is_not_there(engine, goods, make, tmp_path):
    lock = lock_on(engine, BASE, goods, image=ImageOptions(repository="envlock-build-test/baseless"))
    lock = replace(lock, base=replace(lock.base, image_id="sha256:" + "0" * 64))
    with pytest.raises(EngineError, match="in no registry, and this engine does not have it: its envlock/base"):
        make(plan_of(lock), goods)


def test_a_user_of_the_base_with_another_number(engine, goods, make, own_base, tmp_path):
    lock = lock_on(engine, own_base, goods, image=ImageOptions(repository="envlock-build-test/user", user="daemon"))
    with pytest.raises(EnvlockError) as caught:
        make(plan_of(lock), goods)
    lines = (caught.value.message, *caught.value.details)
    assert any("daemon is in the base image with another number" in line for line in lines)


def test_ctrl_c_in_the_middle_of_a_step(own_base, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.interrupted_build", own_base, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "now it is slow" in line:
            process.send_signal(signal.SIGINT)
            break
    _, stderr = process.communicate(timeout=40)
    assert "KeyboardInterrupt" in stderr


def test_two_builds_of_one_lock_at_the_same_time(engine, goods, make, tmp_path):
    lock = lock_on(
        engine, BASE, goods, wheels=(goods.wheel("tiny-g"),), image=ImageOptions(repository="envlock-build-test/twice")
    )
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(make, plan_of(lock), goods, engine=DockerEngine(os.environ)) for _ in range(2)]
    results = [one.result() for one in both]
    assert sorted(image.reused for image in results) == [False, True]
    assert len({image.image_id for image in results}) == 1
