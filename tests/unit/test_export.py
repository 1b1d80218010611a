"""An export's folder: all or nothing, and nothing of anybody else's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from envlock.errors import InputError, StorageError, UsageError
from envlock.export import export
from envlock.formats.context import needed
from envlock.model.plan import Plan, Project, ProjectFile
from envlock.plan import make_plan
from envlock.ports import Wanted
from tests.support.locks import make_base, make_lock
from tests.support.progress import Remembering


class Shelf:
    """Artifacts that are all there; each file's content is its own hash."""

    def __init__(self, folder: Path, *, failing: BaseException | None = None) -> None:
        self.folder = folder
        self.failing = failing

    def fetch(self, wanted: Sequence[Wanted], *, progress) -> Mapping[str, Path]:
        if self.failing:
            raise self.failing
        for item in wanted:
            (self.folder / item.sha256).write_text(item.sha256)
        return {item.sha256: self.folder / item.sha256 for item in wanted}


@pytest.fixture
def place(tmp_path):
    for name in ("shelf", "project", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "project/train.sh").write_text("train\n")
    return tmp_path


def plan_of(*, path: str = "train.sh", **overrides) -> Plan:
    file = ProjectFile(path=path, executable=True, size=6, sha256=hashlib.sha256(b"train\n").hexdigest())
    lock = make_lock(**overrides)
    return make_plan(lock, Project(files=(file,), epoch=86400), fingerprint="ab" * 32, lock_text="lock\n")


def run(place: Path, plan: Plan, *, into: str = "out/here", force: bool = False, failing=None) -> None:
    wanted = [Wanted(title=name, sha256=sha256, size=None, open=None) for sha256, name in needed(plan).items()]
    export(
        plan,
        place / into,
        wanted=wanted,
        artifacts=Shelf(place / "shelf", failing=failing),
        project=place / "project",
        force=force,
        progress=Remembering(),
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_export(place):
    run(place, plan_of())
    found = content(place / "out/here")
    assert sorted(found) == [
        ".dockerignore",
        "Dockerfile",
        "README.md",
        "apt.txt",
        "apt/SHA256SUMS",
        "apt/git_1%3a2.39.5-0+deb12u2_amd64.deb",
        "apt/libcurl3-gnutls_7.88.1-10+deb12u12_amd64.deb",
        "envlock.lock",
        "installer/pip-25.3-py3-none-any.whl",
        "project/train.sh",
        "requirements.txt",
        "wheels/numpy-2.1.0-py3-none-any.whl",
        "wheels/scipy-1.14.0-py3-none-any.whl",
    ]
    assert found["envlock.lock"] == b"lock\n"
    assert found["Dockerfile"].startswith(b"# Made by envlock from envlock.lock")
    script = place / "out/here/project/train.sh"
    assert script.stat().st_mode & 0o777 == 0o755
    assert script.stat().st_mtime == 86400
    assert [path.name for path in (place / "out").iterdir()] == ["here"]


def test_the_readme_says_how_to_build(place):
    run(place, plan_of())
    text = (place / "out/here/README.md").read_text()
    assert "docker build --network none -t demo:env-abababababab ." in text
    run(place, plan_of(base=make_base(manifest_digest=None), debs=()), into="local")
    assert "docker save example.org/base:py3.11" in (place / "local/README.md").read_text()


def test_an_earlier_export_is_replaced_with_force_only(place):
    run(place, plan_of())
    with pytest.raises(UsageError, match="is not empty") as caught:
        run(place, plan_of(debs=()))
    assert "--force" in caught.value.hint
    run(place, plan_of(debs=()), force=True)
    assert not (place / "out/here/apt").exists()
    assert [path.name for path in (place / "out").iterdir()] == ["here"]


@pytest.mark.parametrize("name", ["thesis.tex", "Dockerfile", "wheels"])
def test_what_is_not_ours_is_never_removed(place, name):
    (place / "out/here").mkdir()
    (place / f"out/here/{name}").write_text("FROM mine")
    with pytest.raises(UsageError, match="not an export's"):
        run(place, plan_of(), force=True)
    assert content(place / "out/here") == {name: b"FROM mine"}


def test_not_even_beside_our_own(place):
    run(place, plan_of())
    (place / "out/here/thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not an export's"):
        run(place, plan_of(), force=True)


def test_a_file_or_a_broken_link_in_the_way(place):
    (place / "out/here").write_text("x")
    with pytest.raises(UsageError, match="is not a folder"):
        run(place, plan_of(), force=True)
    (place / "out/link").symlink_to("nowhere")
    with pytest.raises(UsageError, match="is not a folder"):
        run(place, plan_of(), into="out/link", force=True)


def test_an_empty_folder_and_a_link_to_one(place):
    (place / "out/here").mkdir()
    run(place, plan_of())
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    run(place, plan_of(), into="link")
    assert (place / "link").is_symlink()
    assert (place / "real/Dockerfile").exists()


@pytest.mark.parametrize("failing", [KeyboardInterrupt(), StorageError("the disk is full")])
def test_nothing_is_left_of_an_export_that_fails(place, failing):
    with pytest.raises(type(failing)):
        run(place, plan_of(), failing=failing)
    assert list((place / "out").iterdir()) == []


def test_nothing_is_lost_of_the_export_before_either(place):
    run(place, plan_of())
    before = content(place / "out/here")
    (place / "project/train.sh").write_text("other\n")
    with pytest.raises(StorageError, match=r"project/train\.sh changed"):
        run(place, plan_of(), force=True)
    assert content(place / "out/here") == before
    assert [path.name for path in (place / "out").iterdir()] == ["here"]


def test_no_file_gets_outside(place):
    (place / "train.sh").write_text("train\n")
    with pytest.raises(InputError, match="outside the folder"):
        run(place, plan_of(path="../train.sh"))
    plan = plan_of()
    wheel = replace(plan.lock.wheels[0], filename="../../evil.whl")
    with pytest.raises(InputError, match="outside the folder"):
        run(place, plan_of(wheels=(wheel,)))
    assert sorted(path.name for path in place.iterdir()) == ["out", "project", "shelf", "train.sh"]


def test_where_nothing_can_be_written(place):
    (place / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        run(place, plan_of(), into="file/below")
