from __future__ import annotations

import json
from pathlib import Path

import pytest

from envlock.adapters.outbox import FileOutbox
from envlock.errors import InputError, TrackingError
from envlock.model.image import Installed
from envlock.model.lock import Cuda
from envlock.model.record import Destination
from envlock.model.spec import Tracking
from envlock.record import PARAM_LIMIT, TAG_LIMIT, deliver, deliver_pending, shorten
from tests.support.locks import make_lock, make_wheel
from tests.support.recording import FakeRunStore, record_of, unreachable

ARTIFACTS = {
    "envlock.yaml",
    "envlock.lock",
    "requirements.txt",
    "pip-freeze.txt",
    "apt.txt",
    "Dockerfile",
    "image.json",
}


@pytest.fixture
def outbox(tmp_path: Path) -> FileOutbox:
    return FileOutbox(tmp_path / "outbox")


def test_the_tags_are_those_of_the_contract() -> None:
    record = record_of(manifest_digest="sha256:" + "2" * 64, pushed="registry.example.org/demo:env-1")
    lock = make_lock()
    assert record.tags["envlock.image_id"] == record.tags["mlflow.docker.image.id"] == "sha256:" + "1" * 64
    assert record.tags["envlock.image"].startswith("demo:env-")
    assert record.tags["mlflow.docker.image.uri"] == "registry.example.org/demo:env-1"
    assert record.tags["envlock.manifest_digest"] == "sha256:" + "2" * 64
    assert record.tags["envlock.base"] == f"{lock.base.reference}@{lock.base.manifest_digest}"
    assert record.tags["envlock.git_commit"] == "a" * 40
    assert record.tags["envlock.git_dirty"] == "true"
    assert record.tags.keys() >= {"envlock.fingerprint", "envlock.version"}


def test_an_image_that_was_not_pushed_has_no_manifest_digest() -> None:
    record = record_of()
    assert "envlock.manifest_digest" not in record.tags
    assert record.tags["mlflow.docker.image.uri"] == record.tags["envlock.image"]


def test_the_params_are_those_of_the_checklist_in_the_words_of_the_image() -> None:
    lock = make_lock(
        wheels=(make_wheel("torch", "2.1.2"), make_wheel("scikit-learn", "1.5.0"), make_wheel("numpy", "2.0")),
        cuda=Cuda(version="12.1", min_driver="525.60.13", evidence=()),
        mlflow=Tracking(params=("torch", "transformers", "Scikit_Learn")),
    )
    installed = Installed(
        python_version="3.11.2",
        packages={"torch": "2.1.2", "scikit-learn": "1.5.0"},
        freeze="",
        reported={"python": "3.11.2 (main, Mar 13 2023) [GCC 12.2.0]", "torch": "2.1.2+cu121"},
    )
    assert record_of(lock, installed=installed).params == {
        "python_version": "3.11.2 (main, Mar 13 2023) [GCC 12.2.0]",
        "cuda_version": "12.1",
        "torch_version": "2.1.2+cu121",
        "Scikit_Learn_version": "1.5.0",
    }


def test_the_artifacts_are_those_of_the_contract() -> None:
    record = record_of()
    assert record.artifacts.keys() == {f"envlock/{name}" for name in ARTIFACTS}
    assert b"git:amd64=1:2.39.5-0+deb12u2\n" in record.artifacts["envlock/apt.txt"]
    assert json.loads(record.artifacts["envlock/image.json"])["image_id"] == record.tags["envlock.image_id"]
    assert record_of(spec=None).artifacts.keys() == {f"envlock/{name}" for name in ARTIFACTS - {"envlock.yaml"}}


def test_the_same_image_gives_the_same_record_however_long_it_took() -> None:
    assert record_of(seconds={"build": 1.0}) == record_of(seconds={"build": 2.0}, reused=True)


@pytest.mark.parametrize("limit", [PARAM_LIMIT, TAG_LIMIT])
def test_a_value_beyond_the_limit_says_that_it_was_cut(limit: int) -> None:
    assert shorten("ż" * limit, limit) == "ż" * limit
    cut = shorten("ż" * (limit + 1), limit)
    assert len(cut) == limit
    assert f"[cut by envlock: {limit + 1} characters, sha256 " in cut
    assert shorten("ż" * limit + "a", limit) != shorten("ż" * limit + "b", limit)


def test_a_delivered_record_does_not_wait(outbox: FileOutbox) -> None:
    runs = FakeRunStore()
    run_id = deliver(record_of(), Destination(), runs=runs, outbox=outbox)
    assert runs.runs[run_id].tags["envlock.image"].startswith("demo:env-")
    assert outbox.pending() == []


def test_a_record_waits_where_mlflow_does_not_answer_and_the_message_says_where(outbox: FileOutbox) -> None:
    runs = FakeRunStore()
    runs.fail = unreachable
    destination = Destination(tracking_uri="http://mlflow.example.org", experiment="demo")
    with pytest.raises(TrackingError, match="cannot be reached; the record waits in ") as caught:
        deliver(record_of(), destination, runs=runs, outbox=outbox)
    [(key, record, waiting)] = outbox.pending()
    assert (record, waiting) == (record_of(), destination)
    assert outbox.place(key) in caught.value.message
    assert "envlock record --pending" in caught.value.hint
    assert "check it" in caught.value.hint


def test_a_record_waits_where_the_user_interrupts(outbox: FileOutbox) -> None:
    runs = FakeRunStore()

    def interrupt(_: Destination) -> None:
        raise KeyboardInterrupt

    runs.fail = interrupt
    with pytest.raises(KeyboardInterrupt):
        deliver(record_of(), Destination(), runs=runs, outbox=outbox)
    assert len(outbox.pending()) == 1


def test_a_record_for_an_unknown_run_does_not_wait_for_ever(outbox: FileOutbox) -> None:
    with pytest.raises(InputError, match="there is no run"):
        deliver(record_of(), Destination(run_id="f" * 32), runs=FakeRunStore(), outbox=outbox)
    assert outbox.pending() == []


def test_what_waits_is_delivered_once(outbox: FileOutbox) -> None:
    runs = FakeRunStore()
    keys = [outbox.put(record_of(), Destination(run_name=name)) for name in "ab"]
    first = deliver_pending(runs=runs, outbox=outbox)
    assert [delivery.key for delivery in first] == keys
    assert {delivery.run_id for delivery in first} == runs.runs.keys()
    assert len(runs.runs) == 2
    assert deliver_pending(runs=runs, outbox=outbox) == []
    assert len(runs.runs) == 2


def test_a_death_between_acceptance_and_done_makes_no_second_run(outbox: FileOutbox) -> None:
    runs = FakeRunStore()
    key = outbox.put(record_of(), Destination())
    run_id = runs.deliver(record_of(), Destination(), key=key)
    assert [delivery.run_id for delivery in deliver_pending(runs=runs, outbox=outbox)] == [run_id]
    assert list(runs.runs) == [run_id]


def test_a_silent_store_is_asked_once_and_the_others_are_served(outbox: FileOutbox) -> None:
    runs = FakeRunStore()

    def half(destination: Destination) -> None:
        if destination.tracking_uri == "http://down.example.org":
            unreachable(destination)

    runs.fail = half
    for uri in ("http://down.example.org", "http://down.example.org", "http://up.example.org"):
        outbox.put(record_of(), Destination(tracking_uri=uri))
    deliveries = deliver_pending(runs=runs, outbox=outbox)
    assert [delivery.run_id is not None for delivery in deliveries] == [False, False, True]
    assert runs.asked == 2
    assert len(outbox.pending()) == 2


def test_a_record_whose_run_is_gone_holds_up_no_other(outbox: FileOutbox) -> None:
    runs = FakeRunStore()
    outbox.put(record_of(), Destination(run_id="f" * 32))
    outbox.put(record_of(), Destination())
    first, second = deliver_pending(runs=runs, outbox=outbox)
    assert isinstance(first.error, InputError)
    assert second.run_id in runs.runs
    assert [key for key, _, _ in outbox.pending()] == [first.key]


def test_what_another_process_is_delivering_is_left_to_it(outbox: FileOutbox) -> None:
    key = outbox.put(record_of(), Destination())
    with outbox.claim(key, wait=False) as mine:
        assert mine
        assert deliver_pending(runs=FakeRunStore(), outbox=outbox) == []
