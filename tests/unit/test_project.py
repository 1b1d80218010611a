"""The project's files and what git says of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from envlock.adapters.git import public_url
from envlock.adapters.project import read_project, select
from envlock.errors import InputError
from envlock.model.plan import Project
from envlock.model.spec import ProjectFiles


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def selected(root: Path, *include: str, ignore: tuple[str, ...] = ()) -> list[str]:
    return sorted(select(root, ProjectFiles(include=include, ignore=ignore)))


def read(root: Path, *include: str, epoch: int | None = None, warn=pytest.fail) -> Project:
    return read_project(root, ProjectFiles(include=include), source_date_epoch=epoch, warn=warn)


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    env = {**os.environ, "GIT_COMMITTER_DATE": "2026-01-31T12:00:00Z", "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z"}
    done = subprocess.run(["git", *who, "-C", root, *arguments], check=True, capture_output=True, text=True, env=env)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    write(tmp_path, "train.py", "other.py")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    return tmp_path


def test_nothing_without_include(tmp_path):
    write(tmp_path, "train.py")
    assert selected(tmp_path) == []
    assert selected(tmp_path, ignore=("*.log",)) == []


def test_gitignore_patterns(tmp_path):
    write(tmp_path, "train.py", "src/model.py", "src/deep/x.py", "src/notes.txt", "tests/test.py", "configs/a.yaml")
    assert selected(tmp_path, "/train.py", "src/") == ["src/deep/x.py", "src/model.py", "src/notes.txt", "train.py"]
    assert selected(tmp_path, "*.py", ignore=("tests/",)) == ["src/deep/x.py", "src/model.py", "train.py"]
    assert selected(tmp_path, "src/*.py") == ["src/model.py"]
    assert selected(tmp_path, "*", "!*.txt", ignore=("src/*", "!src/model.py")) == [
        "configs/a.yaml", "src/model.py", "tests/test.py", "train.py",
    ]  # fmt: skip


def test_what_is_never_part_of_a_project(tmp_path):
    write(tmp_path, ".git/config", ".envlock/x", "envlock.lock", "a/__pycache__/a.pyc", "b.pyc", "a/.git", "a/a.py")
    assert selected(tmp_path, "*") == ["a/a.py"]
    write(tmp_path, "data/envlock.lock", "envlock.yaml")
    assert selected(tmp_path, "*") == ["a/a.py", "data/envlock.lock", "envlock.yaml"]


def test_what_mlflow_writes_beside_the_spec_does_not_change_the_project(tmp_path):
    write(tmp_path, "train.py", "deep/mlflow.db")
    before = read(tmp_path, "*")
    write(tmp_path, "mlflow.db", "mlflow.db-journal", "mlruns/1/meta.yaml", "mlartifacts/1/x")
    assert read(tmp_path, "*") == before
    assert [file.path for file in before.files] == ["deep/mlflow.db", "train.py"]


def test_content_and_mode(tmp_path):
    write(tmp_path, "b.sh", "a.py")
    (tmp_path / "b.sh").chmod(0o750)
    first, second = read(tmp_path, "*").files
    assert (first.path, first.executable, first.size) == ("a.py", False, 4)
    assert (second.path, second.executable) == ("b.sh", True)
    assert first.sha256 == hashlib.sha256(b"a.py").hexdigest()


def test_links_inside_the_project_count_as_what_they_point_to(tmp_path):
    write(tmp_path, "src/model.py")
    (tmp_path / "again.py").symlink_to("src/model.py")
    (tmp_path / "lib").symlink_to("src")
    (tmp_path / "src/loop").symlink_to("..")
    assert selected(tmp_path, "*.py") == ["again.py", "lib/model.py", "src/model.py"]
    assert read(tmp_path, "again.py").files[0].sha256 == hashlib.sha256(b"src/model.py").hexdigest()


@pytest.mark.parametrize("name", ["data", "data.csv"])
def test_links_that_leave_the_project(tmp_path, name):
    project = tmp_path / "project"
    write(tmp_path, "outside/data.csv", "project/train.py")
    (project / name).symlink_to(tmp_path / "outside" if name == "data" else tmp_path / "outside/data.csv")
    with pytest.raises(InputError, match=f"{name} is a link to something outside the project"):
        selected(project, "*")
    assert selected(project, "*", ignore=(name,)) == ["train.py"]
    assert selected(project, "*.py") == ["train.py"]


def test_what_cannot_go_into_an_image(tmp_path):
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(InputError, match="broken is a link to a file that is not there"):
        selected(tmp_path, "*")
    (tmp_path / "broken").unlink()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match="circle is a link to a file that is not there"):
        selected(tmp_path, "*")
    assert selected(tmp_path, "*.py") == []
    (tmp_path / "circle").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is not a regular file"):
        selected(tmp_path, "*")
    (tmp_path / "pipe").unlink()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_text("x")
    with pytest.raises(InputError, match="not UTF-8"):
        selected(tmp_path, "*")


def test_no_repository(tmp_path):
    write(tmp_path, "train.py")
    project = read(tmp_path, "*")
    assert (project.revision, project.version, project.source, project.dirty, project.epoch) == (
        None,
        None,
        None,
        False,
        0,
    )
    assert read(tmp_path, "*", epoch=7).epoch == 7


def test_a_repository_without_a_commit(tmp_path):
    git(tmp_path, "init")
    assert read(tmp_path).revision is None


def test_a_commit(repository):
    project = read(repository, "*.py")
    assert project.revision == git(repository, "rev-parse", "HEAD")
    assert project.version == project.revision[: len(project.version)]
    assert (project.dirty, project.source, project.epoch) == (False, None, 1769860800)
    assert read(repository, epoch=0).epoch == 0


def test_tags_and_the_origin(repository):
    git(repository, "tag", "v1.2")
    git(repository, "remote", "add", "origin", "https://me:secret@git.example.org/team/demo.git")
    project = read(repository, "*.py")
    assert (project.version, project.source) == ("v1.2", "https://git.example.org/team/demo.git")


def test_dirty_is_a_changed_file_anywhere_or_a_new_one_that_goes_in(repository):
    git(repository, "tag", "v1.2")
    write(repository, "notes.txt")
    assert not read(repository, "*.py").dirty
    write(repository, "new.py")
    project = read(repository, "*.py")
    assert (project.dirty, project.version) == (True, "v1.2-dirty")
    (repository / "new.py").unlink()
    (repository / "other.py").write_text("changed")
    assert read(repository, "train.py").dirty


def test_a_project_below_the_repositorys_top(repository):
    write(repository, "sub/zażółć gęślą.py")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "y")
    assert not read(repository / "sub", "*").dirty


def test_a_repository_that_belongs_to_somebody_else(repository):
    os.chown(repository / ".git", 1234, 1234)
    os.chown(repository, 1234, 1234)
    warnings: list[str] = []
    assert read(repository, "*.py", warn=warnings.append).revision is None
    assert len(warnings) == 1
    assert "safe.directory" in warnings[0]


def test_no_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert read(repository).revision is None


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://git.example.org/a/b.git", "https://git.example.org/a/b.git"),
        ("https://token@git.example.org:8443/a/b.git?private_token=x#y", "https://git.example.org:8443/a/b.git"),
        ("https://user:p%40ss@[::1]/a", "https://[::1]/a"),
        ("ssh://git:pass@git.example.org/a/b", "ssh://git.example.org/a/b"),
        ("git@git.example.org:a/b.git", "ssh://git.example.org/a/b.git"),
        ("/srv/git/b.git", None),
        ("../b.git", None),
        ("file:///srv/git/b.git", None),
        ("https://", None),
        ("https://a:b@host:port/x", None),
        ("C:\\work", None),
        ("", None),
    ],
)
def test_no_credentials_and_no_paths_in_the_source(url, public):
    assert public_url(url) == public
