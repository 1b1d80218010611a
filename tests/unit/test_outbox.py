from __future__ import annotations

import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envlock.adapters.outbox import FileOutbox, _dump, _load
from envlock.errors import StorageError
from envlock.model.record import Destination, Record

RECORD = Record(tags={"a": "b"}, params={"c": "d"}, artifacts={"envlock/x": b"\x00\xff"})


@given(
    st.dictionaries(st.text(), st.text()),
    st.dictionaries(st.text(), st.text()),
    st.dictionaries(st.text(), st.binary()),
)
def test_a_record_comes_back_as_it_was(
    tags: dict[str, str], params: dict[str, str], artifacts: dict[str, bytes]
) -> None:
    record = Record(tags=tags, params=params, artifacts=artifacts)
    destination = Destination(tracking_uri="http://example.org", run_name="x")
    assert _load(_dump(record, destination)) == (record, destination)


def test_only_this_user_can_read_it(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "deep" / "outbox")
    key = outbox.put(RECORD, Destination())
    file = Path(outbox.place(key))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_a_password_in_the_tracking_uri_is_not_written(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    key = outbox.put(RECORD, Destination(tracking_uri="https://anna:hunter2@mlflow.example.org/x"))
    assert "hunter2" not in Path(outbox.place(key)).read_text()
    [(_, _, destination)] = outbox.pending()
    assert destination.tracking_uri == "https://mlflow.example.org/x"


def test_the_oldest_is_first(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    keys = [outbox.put(RECORD, Destination(run_name=str(number))) for number in range(12)]
    assert [key for key, _, _ in outbox.pending()] == keys


def test_an_empty_outbox_needs_no_folder(tmp_path: Path) -> None:
    assert FileOutbox(tmp_path / "nothing").pending() == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"format": 2}',
        b"[" * 100_000,
        b'{"format": 1, "destination": {}, "tags": {}, "params": {}, "artifacts": {"a": "!"}}',
        b'{"format": 1, "destination": {}, "tags": {"a": 1}, "params": {}, "artifacts": {}}',
        b'{"format": 1, "destination": {"run": "x"}, "tags": {}, "params": {}, "artifacts": {}}',
    ],
)
def test_a_damaged_file_is_reported_and_the_others_are_read(tmp_path: Path, content: bytes) -> None:
    warnings: list[str] = []
    outbox = FileOutbox(tmp_path, warn=warnings.append)
    damaged = Path(outbox.place(outbox.put(RECORD, Destination())))
    damaged.write_bytes(content)
    good = outbox.put(RECORD, Destination())
    assert [key for key, _, _ in outbox.pending()] == [good]
    assert len(warnings) == 1
    assert str(damaged) in warnings[0]
    assert damaged.exists()


def test_a_folder_that_cannot_be_made_is_the_users_to_know(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="the record cannot be kept"):
        FileOutbox(tmp_path / "file" / "outbox").put(RECORD, Destination())


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        FileOutbox(tmp_path).put(RECORD, Destination())
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_gone_cannot_be_claimed(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    key = outbox.put(RECORD, Destination())
    outbox.done(key)
    outbox.done(key)
    with outbox.claim(key, wait=True) as mine:
        assert not mine


def _hold(folder: Path, key: str, seconds: float, *, finish: bool) -> None:
    outbox = FileOutbox(folder)
    with outbox.claim(key, wait=True):
        (folder / "held").touch()
        time.sleep(seconds)
        if not finish:
            os._exit(9)  # as if killed
        outbox.done(key)


@pytest.mark.parametrize("finish", [True, False])
def test_a_claim_holds_against_other_processes_and_ends_with_them(tmp_path: Path, *, finish: bool) -> None:
    outbox = FileOutbox(tmp_path)
    key = outbox.put(RECORD, Destination())
    other = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(tmp_path, key, 0.5), kwargs={"finish": finish}
    )
    other.start()
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "held").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with outbox.claim(key, wait=False) as mine:
            assert not mine
        with outbox.claim(key, wait=True) as mine:
            assert mine is not finish  # delivered by the other, or let go of by its end
    finally:
        other.join(30)
