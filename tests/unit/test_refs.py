from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from envlock.cli.refs import parse_ref
from envlock.cli.tracking import destination_of
from envlock.errors import InputError, UsageError
from envlock.model.record import Destination
from envlock.model.spec import Tracking
from tests.support.locks import make_lock

RUN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("envlock.lock", "lock", "envlock.lock"),
        ("./other", "lock", "./other"),
        ("old.lock", "lock", "old.lock"),
        ("/x/y", "lock", "/x/y"),
        ("lock:there", "lock", "there"),
        ("live", "live", "live"),
        (RUN, "run", RUN),
        (f"runs:/{RUN}", "run", RUN),
        (f"runs:/{RUN}/envlock", "run", RUN),
        (f"run:{RUN}", "run", RUN),
        ("demo", "image", "demo"),
        ("demo:env-0123456789ab", "image", "demo:env-0123456789ab"),
        ("image:live", "image", "live"),
        ("image:there", "image", "there"),
        ("sha256:" + "a" * 64, "image", "sha256:" + "a" * 64),
        ("r.example.org:5000/a:c@sha256:" + "a" * 64, "image", "r.example.org:5000/a:c@sha256:" + "a" * 64),
        ("there", "lock", "there"),
    ],
)
def test_what_a_ref_means(tmp_path: Path, text: str, kind: str, value: str) -> None:
    (tmp_path / "there").write_text("")
    ref = parse_ref(text, cwd=tmp_path)
    assert (ref.kind, ref.value) == (kind, value)


@pytest.mark.parametrize("text", ["run:abc", "runs:/x", "runs:/", "Not An Image", "a;b", "", "$(x)", "image:"])
def test_what_means_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        parse_ref(text, cwd=tmp_path)


def test_what_could_be_two_things_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text("")
    with pytest.raises(UsageError, match="could be a run's ID") as caught:
        parse_ref(RUN, cwd=tmp_path)
    assert f"lock:{RUN}" in caught.value.hint
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "envlock.lock").write_text("")
    with pytest.raises(UsageError, match="could be an image"):
        parse_ref("demo", cwd=tmp_path)


def destination(tmp_path: Path, tracking: Tracking, environ: dict[str, str], **options: Any) -> Destination:
    world: Any = SimpleNamespace(environ=environ, cwd=tmp_path)
    lock = make_lock(mlflow=tracking)
    return destination_of(lock, world=world, **{"run_id": None, "experiment": None, **options})


def test_where_a_record_goes(tmp_path: Path) -> None:
    local = f"sqlite:///{tmp_path}{os.sep}mlflow.db"
    environ = {"MLFLOW_TRACKING_URI": "http://e.example.org", "MLFLOW_RUN_ID": RUN, "MLFLOW_EXPERIMENT_NAME": "e"}
    spec = Tracking(tracking_uri="http://s.example.org", experiment="s")
    assert destination(tmp_path, Tracking(), {}) == Destination(tracking_uri=local)
    assert destination(tmp_path, spec, {}) == Destination(tracking_uri="http://s.example.org", experiment="s")
    assert destination(tmp_path, spec, environ) == Destination(tracking_uri="http://s.example.org", run_id=RUN)
    assert destination(tmp_path, Tracking(), environ, experiment="o").experiment == "o"
    assert destination(tmp_path, Tracking(), environ, run_id="f" * 32).run_id == "f" * 32
    del environ["MLFLOW_RUN_ID"]
    there = Destination(tracking_uri="http://e.example.org", experiment="e")
    assert destination(tmp_path, Tracking(), environ) == there
    with pytest.raises(UsageError, match="exclude each other"):
        destination(tmp_path, spec, {}, run_id=RUN, experiment="x")
