"""From files to a plan, as the commands do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from envlock.cli.lock import lock
from envlock.cli.planning import planned, source_date_epoch
from envlock.cli.world import World
from envlock.errors import StaleLock, UsageError
from envlock.formats.lock_json import dump_lock
from tests.support.locks import make_lock

SPEC = 'name: demo\nbase: example.org/base:py3.11\npython: "3.11"\n'


@pytest.mark.parametrize(("text", "epoch"), [("", None), ("0", 0), (" 1767225600\n", 1767225600)])
def test_source_date_epoch(tmp_path, text, epoch):
    assert source_date_epoch(World(environ={"SOURCE_DATE_EPOCH": text}, cwd=tmp_path)) == epoch


@pytest.mark.parametrize("text", ["-1", "1.5", "yesterday", "\uff19", "9" * 30])
def test_no_source_date_epoch(tmp_path, text):
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is"):
        source_date_epoch(World(environ={"SOURCE_DATE_EPOCH": text}, cwd=tmp_path))


@pytest.mark.parametrize("option", [{"upgrade": True}, {"upgrade_package": ["numpy"]}])
def test_looking_at_a_lock_upgrades_nothing(option):
    with pytest.raises(UsageError, match="--check only looks"):
        lock(check=True, **option)


def test_a_lock_alone_is_enough(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = World(environ={"SOURCE_DATE_EPOCH": "86400"}, cwd=tmp_path)
    (tmp_path / "envlock.lock").write_text(dump_lock(make_lock()))
    (tmp_path / "train.py").write_text("")
    found = planned(Path("envlock.yaml"), Path("envlock.lock"), world=world)
    assert found.spec_bytes is None
    assert found.folder == tmp_path
    assert [file.path for file in found.plan.project.files] == ["train.py"]
    assert found.plan.config.labels["org.opencontainers.image.created"] == "1970-01-02T00:00:00Z"


def test_a_lock_that_answers_another_spec(tmp_path):
    world = World(environ={}, cwd=tmp_path)
    (tmp_path / "envlock.lock").write_text(dump_lock(make_lock()))
    (tmp_path / "envlock.yaml").write_text(SPEC)
    with pytest.raises(StaleLock) as caught:
        planned(tmp_path / "envlock.yaml", tmp_path / "envlock.lock", world=world)
    assert caught.value.details


def test_files_that_are_not_there(tmp_path):
    world = World(environ={}, cwd=tmp_path)
    with pytest.raises(UsageError, match=r"there is no .*envlock\.lock"):
        planned(tmp_path / "envlock.yaml", tmp_path / "envlock.lock", world=world)
    with pytest.raises(UsageError, match=r"there is no .*envlock\.yaml"):
        planned(tmp_path / "envlock.yaml", tmp_path / "envlock.lock", world=world, lock_if_missing=True)
    (tmp_path / "envlock.lock").write_text(dump_lock(make_lock()))
    with pytest.raises(UsageError, match=r"there is no .*other\.yaml"):
        planned(tmp_path / "other.yaml", tmp_path / "envlock.lock", world=world)
