"""What a command in an image's container is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envlock.errors import UnknownImage, UsageError
from envlock.run import Given, given, image_named, image_of
from tests.support.fake_engine import FakeEngine


def make(**overrides: Any) -> Given:
    arguments: dict[str, Any] = {
        "tracking_uri": None,
        "run_id": None,
        "experiment": None,
        "network": None,
        "env": (),
        "volumes": (),
        "environ": {},
        "cwd": Path("/jobs"),
    }
    return given(**{**arguments, **overrides})


def test_mlflow_is_passed_on_with_its_credentials_and_nothing_else_is() -> None:
    environ = {
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_TRACKING_PASSWORD": "hunter22",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PATH": "/bin",
        "MLFLOW_TRACKING_TOKEN": "",
    }
    found = make(tracking_uri="https://mlflow.example.org", run_id="r1", experiment="speech", environ=environ)
    assert found.env == {
        "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
        "MLFLOW_RUN_ID": "r1",
        "MLFLOW_EXPERIMENT_NAME": "speech",
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_TRACKING_PASSWORD": "hunter22",
    }
    assert (found.network, found.messages) == (None, ())


@pytest.mark.parametrize(
    "host", ["127.0.0.1:5001", "localhost:5001", "[::1]:5001", "127.8.8.8", "me:pass@127.0.0.1:5001"]
)
def test_mlflow_on_loopback_needs_the_hosts_network(host: str) -> None:
    found = make(tracking_uri=f"http://{host}")
    assert found.network == "host"
    assert len(found.messages) == 1
    assert "host networking" in found.messages[0]
    assert "pass@" not in found.messages[0]


def test_mlflow_on_loopback_is_out_of_reach_for_an_engine_elsewhere() -> None:
    with pytest.raises(UsageError, match="on another") as caught:
        make(tracking_uri="http://127.0.0.1:5001", engine_is_here=False)
    assert caught.value.hint
    assert make(tracking_uri="https://mlflow.example.org", engine_is_here=False).network is None


def test_network_that_the_user_chose_stays() -> None:
    assert make(tracking_uri="http://127.0.0.1:5001", network="mine").network == "mine"


@pytest.mark.parametrize("uri", ["sqlite:////home/me/mlflow.db", "file:///home/me/mlruns"])
def test_store_in_a_file_is_not_passed_on_and_said_so(uri: str) -> None:
    found = make(tracking_uri=uri)
    assert "MLFLOW_TRACKING_URI" not in found.env
    assert "not passed on" in found.messages[0]


def test_variables() -> None:
    found = make(env=["A=1=2", "B", "EMPTY="], environ={"B": "two"})
    assert found.env == {"A": "1=2", "B": "two", "EMPTY": ""}
    assert make(env=["MLFLOW_RUN_ID=mine"], run_id="other").env["MLFLOW_RUN_ID"] == "mine"
    for wrong in ("", "=x", "NOT_SET", " A=1", "A\n=1"):
        with pytest.raises(UsageError):
            make(env=[wrong])


def test_volumes() -> None:
    found = make(volumes=["./data:/data", "/srv:/srv:ro", "named:/cache", "..:/up", "sub/x:/x"])
    assert found.volumes == {
        "/jobs/data": "/data",
        "/srv": "/srv:ro",
        "named": "/cache",
        "/": "/up",
        "/jobs/sub/x": "/x",
    }
    for wrong in ("x", "x:", ":/x", "/a:b", "/a:/b:rx", "/a:/b:ro:x"):
        with pytest.raises(UsageError):
            make(volumes=[wrong])
    with pytest.raises(UsageError, match="twice"):
        make(volumes=["/a:/b", "/a:/c"])


def test_image_of_a_lock() -> None:
    engine = FakeEngine()
    with pytest.raises(UnknownImage, match="demo:env-0123456789ab") as caught:
        image_of("demo", "0123456789abcdef", engine=engine)
    assert "envlock build" in caught.value.hint
    engine.add("demo:env-0123456789ab")
    assert image_of("demo", "0123456789abcdef", engine=engine) == "demo:env-0123456789ab"
    with pytest.raises(UnknownImage):
        image_named("other:1", engine=engine)
    assert image_named("docker.io/demo:env-0123456789ab", engine=engine) == "demo:env-0123456789ab"
