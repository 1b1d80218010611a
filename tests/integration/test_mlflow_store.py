"""One contract for run stores, held by the fake that unit tests use and by MLflow itself; and MLflow's failures."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from envlock.adapters.mlflow_store import MlflowRuns, default_tracking_uri, located
from envlock.adapters.mlflow_store.session import session
from envlock.adapters.mlflow_store.store import KEY_TAG
from envlock.adapters.outbox import FileOutbox
from envlock.errors import InputError, TrackingError
from envlock.model.record import Destination, Record
from envlock.model.spec import Tracking
from envlock.ports import RunStore
from envlock.record import deliver, deliver_pending
from tests.support.locks import make_lock, make_wheel
from tests.support.mlflow_servers import free_port, mlflow_server, refusing_server, silent_server
from tests.support.recording import FakeRunStore, record_of

SYS_VERSION = "3.11.2 (main, Mar 13 2023, 12:18:29) [GCC 12.2.0]"


@dataclass
class Store:
    """A run store, and a way to look into it and to write to it that is not ours."""

    runs: RunStore
    uri: str | None
    notes: list[str]
    look: Callable[[str], tuple[dict[str, str], dict[str, str], dict[str, bytes]]]
    new_run: Callable[[Mapping[str, str], Mapping[str, bytes]], str]
    count: Callable[[], int]
    delete: Callable[[str], None]

    @property
    def destination(self) -> Destination:
        return Destination(tracking_uri=self.uri)


def fake() -> Store:
    notes: list[str] = []
    runs = FakeRunStore(note=notes.append)

    def look(run_id: str) -> tuple[dict[str, str], dict[str, str], dict[str, bytes]]:
        run = runs.runs[run_id]
        return dict(run.tags), dict(run.params), dict(run.artifacts)

    def delete(run_id: str) -> None:
        runs.runs[run_id].deleted = True

    return Store(
        runs=runs, uri=None, notes=notes, look=look, new_run=runs.new_run, count=lambda: len(runs.runs), delete=delete
    )


def real(uri: str, scratch: Path) -> Store:
    notes: list[str] = []
    runs = MlflowRuns(uri, environ=os.environ, note=notes.append)

    def look(run_id: str) -> tuple[dict[str, str], dict[str, str], dict[str, bytes]]:
        with session(uri, os.environ) as client:
            run = client.get_run(run_id)
            folder = scratch / f"look-{time.monotonic_ns()}"
            folder.mkdir()
            artifacts = {}
            if client.list_artifacts(run_id):
                root = Path(client.download_artifacts(run_id, "", str(folder)))
                files = [file for file in root.rglob("*") if file.is_file()]
                artifacts = {str(file.relative_to(root)): file.read_bytes() for file in files}
            return dict(run.data.tags), dict(run.data.params), artifacts

    def new_run(params: Mapping[str, str], artifacts: Mapping[str, bytes]) -> str:
        with session(uri, os.environ) as client:
            run_id = str(client.create_run("0").info.run_id)
            for name, value in params.items():
                client.log_param(run_id, name, value)
            for path, content in artifacts.items():
                folder, _, name = path.rpartition("/")
                (scratch / name).write_bytes(content)
                client.log_artifact(run_id, str(scratch / name), folder or None)
            return run_id

    def count() -> int:
        with session(uri, os.environ) as client:
            ids = [experiment.experiment_id for experiment in client.search_experiments()]
            return len(client.search_runs(ids))

    def delete(run_id: str) -> None:
        with session(uri, os.environ) as client:
            client.delete_run(run_id)

    return Store(runs=runs, uri=uri, notes=notes, look=look, new_run=new_run, count=count, delete=delete)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Making MLflow's tables takes seconds: once is enough."""
    file = tmp_path_factory.mktemp("template") / "mlflow.db"
    with session(f"sqlite:///{file}", os.environ) as client:
        client.search_experiments()
    return file.read_bytes()


@pytest.fixture
def sqlite_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/store/mlflow.db"


@pytest.fixture(scope="module")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as uri:
        yield uri


@pytest.fixture
def sqlite(sqlite_uri: str, tmp_path: Path, empty_database: bytes) -> Store:
    file = tmp_path / "store" / "mlflow.db"
    file.parent.mkdir()
    file.write_bytes(empty_database)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", [str(file.parent / "mlruns" / "0")])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return real(sqlite_uri, scratch)


@pytest.fixture(params=["fake", "sqlite", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "fake":
        return fake()
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite")
    uri: str = request.getfixturevalue("server_uri")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return real(uri, scratch)


def python(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a program of its own that can import envlock, wherever it is started."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-c", script, *arguments]
    return subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, check=False, timeout=120)


# --- the contract -----------------------------------------------------------------------------------------------------


def test_a_new_run_gets_all_of_a_record(store: Store) -> None:
    record = record_of()
    before = store.count()
    run_id = store.runs.deliver(record, store.destination, key="k1")
    tags, params, artifacts = store.look(run_id)
    assert store.count() == before + 1
    assert {name: tags[name] for name in record.tags} == record.tags
    assert params == record.params
    assert artifacts == record.artifacts


def test_one_key_is_one_run(store: Store) -> None:
    first = store.runs.deliver(record_of(), store.destination, key="k2")
    before = store.count()
    assert store.runs.deliver(record_of(), store.destination, key="k2") == first
    assert store.count() == before
    assert store.runs.deliver(record_of(), store.destination, key="k3") != first


def test_an_existing_run_is_added_to_and_twice_changes_nothing(store: Store) -> None:
    run_id = store.new_run({"lr": "2e-4"}, {"model.bin": b"weights"})
    destination = replace(store.destination, run_id=run_id)
    assert store.runs.deliver(record_of(), destination, key="k4") == run_id
    once = store.look(run_id)
    assert store.runs.deliver(record_of(), destination, key="k5") == run_id
    assert store.look(run_id) == once
    assert once[1]["lr"] == "2e-4"
    assert once[2]["model.bin"] == b"weights"
    assert store.notes == []


def test_a_param_that_is_there_with_another_value_stays_and_the_rest_is_recorded(store: Store) -> None:
    run_id = store.new_run({"python_version": SYS_VERSION}, {})
    destination = replace(store.destination, run_id=run_id)
    for key in ("k6", "k7"):
        store.runs.deliver(record_of(), destination, key=key)
    tags, params, artifacts = store.look(run_id)
    assert params["python_version"] == SYS_VERSION
    assert tags["envlock.python_version"] == "3.11.2"
    assert tags["envlock.fingerprint"]
    assert "envlock/envlock.lock" in artifacts
    assert "python_version" in store.notes[0]


def test_the_last_of_two_images_in_one_run_is_the_one_that_it_names(store: Store) -> None:
    run_id = store.new_run({}, {})
    destination = replace(store.destination, run_id=run_id)
    other = make_lock(wheels=(make_wheel("numpy", "2.2.0"),))
    store.runs.deliver(record_of(), destination, key="k8")
    store.runs.deliver(record_of(other), destination, key="k9")
    assert store.look(run_id)[0]["envlock.image"] == record_of(other).tags["envlock.image"]
    store.runs.deliver(record_of(), destination, key="k10")
    assert store.look(run_id)[0]["envlock.image"] == record_of().tags["envlock.image"]


def test_more_params_and_tags_than_mlflow_takes_at_once(store: Store) -> None:
    names = tuple(f"package-{number}" for number in range(230))
    lock = make_lock(wheels=tuple(make_wheel(name) for name in names), mlflow=Tracking(params=names))
    record = record_of(lock)
    record = Record(
        tags={**record.tags, **{f"t{number}": "x" for number in range(230)}},
        params=record.params,
        artifacts=record.artifacts,
    )
    run_id = store.runs.deliver(record, store.destination, key="k11")
    tags, params, _ = store.look(run_id)
    assert params == record.params
    assert tags.items() >= record.tags.items()


@pytest.mark.parametrize("run_id", ["f" * 32, "no-such-run"])
def test_an_unknown_run_is_the_users_mistake(store: Store, run_id: str) -> None:
    with pytest.raises(InputError, match=f"there is no run {run_id}"):
        store.runs.deliver(record_of(), replace(store.destination, run_id=run_id), key="k12")
    with pytest.raises(InputError, match=f"there is no run {run_id}"):
        store.runs.environment(run_id, title="x")


def test_a_deleted_run_is_not_written_to(store: Store) -> None:
    run_id = store.new_run({}, {})
    store.delete(run_id)
    with pytest.raises(InputError, match=f"run {run_id} is deleted"):
        store.runs.deliver(record_of(), replace(store.destination, run_id=run_id), key="k13")


def test_a_recorded_run_gives_its_environment_back(store: Store) -> None:
    lock = make_lock()
    run_id = store.runs.deliver(record_of(lock), store.destination, key="k14")
    environment = store.runs.environment(run_id, title="mine")
    assert (environment.title, environment.kind) == ("mine", "run")
    assert environment.pip == {"numpy": "2.1.0", "scipy": "1.14.0"}
    assert environment.apt == {deb.name: deb.version for deb in lock.debs}
    assert environment.image["reference"].startswith("demo:env-")
    assert environment.labels == {"org.opencontainers.image.revision": "a" * 40}


def test_a_run_as_the_checklist_logs_it_gives_an_environment_too(store: Store) -> None:
    params = {"python_version": SYS_VERSION, "torch_version": "2.1.2+cu118", "cuda_version": "11.8", "lr": "1"}
    freeze = b"numpy==1.24.3\nscipy==1.11.4\n-e git+https://example.org/x#egg=x\n"
    run_id = store.new_run(params, {"requirements.txt": freeze})
    environment = store.runs.environment(run_id, title="x")
    assert environment.python == "3.11.2"
    assert environment.cuda == {"version": "11.8"}
    assert environment.pip == {"numpy": "1.24.3", "scipy": "1.11.4", "torch": "2.1.2+cu118"}
    assert environment.scope["pip"] == "some"
    assert environment.apt is None


def test_a_run_that_says_nothing_is_unknown_not_empty(store: Store) -> None:
    environment = store.runs.environment(store.new_run({"lr": "1"}, {}), title="x")
    assert (environment.pip, environment.python, environment.cuda, environment.seeds) == (None, None, None, None)


def test_artifacts_are_read_by_path(store: Store) -> None:
    run_id = store.new_run({}, {"a/b.txt": b"x"})
    assert store.runs.artifact(run_id, "a/b.txt") == b"x"
    assert store.runs.artifact(run_id, "a/c.txt") is None
    assert store.runs.artifact(run_id, "a") is None
    assert store.runs.artifact(run_id, "nowhere/c.txt") is None


# --- MLflow alone -----------------------------------------------------------------------------------------------------


def test_a_death_between_mlflow_and_done_makes_no_second_run(sqlite: Store, tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "outbox")
    key = outbox.put(record_of(), sqlite.destination)
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from envlock.adapters.mlflow_store import MlflowRuns\nfrom envlock.adapters.outbox import FileOutbox\n"
        "from envlock.record import deliver_pending\n"
        "class Dying(FileOutbox):\n    def done(self, key):\n        os._exit(9)\n"
        "deliver_pending(runs=MlflowRuns(sys.argv[1], environ=os.environ), outbox=Dying(Path(sys.argv[2])))\n"
    )
    assert python(script, str(sqlite.uri), str(tmp_path / "outbox"), cwd=tmp_path).returncode == 9
    assert [waiting for waiting, _, _ in outbox.pending()] == [key]
    assert sqlite.count() == 1
    [delivery] = deliver_pending(runs=sqlite.runs, outbox=outbox)
    assert delivery.error is None
    assert sqlite.count() == 1
    assert outbox.pending() == []


@pytest.mark.parametrize("stop", ["log_artifacts", "log_batch", "set_terminated"])
def test_a_death_half_way_is_made_good_by_the_next_one(
    sqlite: Store, stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    with monkeypatch.context() as patch:

        def die(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(MlflowClient, stop, die)
        with pytest.raises(KeyboardInterrupt):
            sqlite.runs.deliver(record_of(), sqlite.destination, key="k")
    run_id = sqlite.runs.deliver(record_of(), sqlite.destination, key="k")
    tags, params, artifacts = sqlite.look(run_id)
    assert sqlite.count() == 1
    assert tags[KEY_TAG] == "k"
    assert (params, artifacts) == (record_of().params, record_of().artifacts)


def _deliver_pending(uri: str, folder: Path, start: Any) -> None:
    runs = MlflowRuns(uri, environ=os.environ)
    start.wait(60)
    deliver_pending(runs=runs, outbox=FileOutbox(folder))


def test_two_processes_deliver_each_record_once(sqlite: Store, tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "outbox")
    for number in range(6):
        outbox.put(record_of(), replace(sqlite.destination, experiment=f"e{number % 2}"))
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    processes = [
        context.Process(target=_deliver_pending, args=(sqlite.uri, tmp_path / "outbox", start)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert outbox.pending() == []
    assert sqlite.count() == 6


def test_an_experiment_is_made_where_it_is_missing_and_used_where_another_was_quicker(
    sqlite: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    destination = replace(sqlite.destination, experiment="new one")
    sqlite.runs.deliver(record_of(), destination, key="a")
    asked = MlflowClient.get_experiment_by_name
    answers = iter([True])

    def late(self: MlflowClient, name: str) -> Any:
        return None if next(answers, False) else asked(self, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", late)
    sqlite.runs.deliver(record_of(), destination, key="b")
    assert sqlite.count() == 2


def test_a_deleted_experiment_is_said_to_be_one(sqlite: Store) -> None:
    with session(str(sqlite.uri), os.environ) as client:
        client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(InputError, match="'gone' is deleted") as caught:
        sqlite.runs.deliver(record_of(), replace(sqlite.destination, experiment="gone"), key="a")
    assert "mlflow experiments restore --experiment-id" in caught.value.hint


def test_a_run_that_we_made_is_finished_and_one_that_is_running_goes_on(sqlite: Store) -> None:
    made = sqlite.runs.deliver(record_of(), sqlite.destination, key="a")
    there = sqlite.new_run({}, {})
    sqlite.runs.deliver(record_of(), replace(sqlite.destination, run_id=there), key="b")
    with session(str(sqlite.uri), os.environ) as client:
        assert client.get_run(made).info.status == "FINISHED"
        assert client.get_run(there).info.status == "RUNNING"


def test_artifacts_of_a_local_store_lie_beside_it(sqlite_uri: str, tmp_path: Path) -> None:
    run_id = MlflowRuns(sqlite_uri, environ=os.environ).deliver(record_of(), Destination(), key="a")
    assert [file.parts[-3] for file in (tmp_path / "store" / "mlruns").rglob("envlock.lock")] == ["artifacts"]
    assert run_id in str(next((tmp_path / "store" / "mlruns").rglob("envlock.lock")))


def test_nothing_of_ours_stays_in_the_process(sqlite: Store, capfd: pytest.CaptureFixture[str]) -> None:
    import mlflow

    before = dict(os.environ)
    sqlite.runs.deliver(record_of(), sqlite.destination, key="a")
    assert dict(os.environ) == before
    assert mlflow.tracking._tracking_service.utils._tracking_uri is None
    assert capfd.readouterr() == ("", "")


def test_a_fresh_store_is_made_in_silence(tmp_path: Path) -> None:
    script = (
        "import os\nfrom envlock.adapters.mlflow_store import MlflowRuns\n"
        "from envlock.model.record import Destination, Record\n"
        "runs = MlflowRuns('sqlite:///fresh.db', environ=os.environ)\n"
        "runs.deliver(Record(tags={}, params={}, artifacts={}), Destination(), key='a')\n"
    )
    done = python(script, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_list_of_packages_is_found_wherever_it_lies_the_nearest_first(sqlite: Store) -> None:
    deep = {"model/requirements.txt": b"numpy==1.0\n", "out/a/pip-freeze.txt": b"numpy==2.0\n"}
    assert sqlite.runs.environment(sqlite.new_run({}, deep), title="x").pip == {"numpy": "1.0"}
    conda = b"dependencies:\n- python=3.10.14\n- pip:\n  - torch==2.1.2\n"
    environment = sqlite.runs.environment(sqlite.new_run({}, {"model/conda.yaml": conda}), title="x")
    assert (environment.pip, environment.python) == ({"torch": "2.1.2"}, "3.10.14")


def test_a_damaged_lock_in_a_run_is_said_to_be_one(sqlite: Store) -> None:
    run_id = sqlite.new_run({}, {"envlock/envlock.lock": b"{"})
    with pytest.raises(InputError, match=f"envlock.lock of run {run_id}"):
        sqlite.runs.environment(run_id, title="x")


# --- where MLflow is not as it should be ------------------------------------------------------------------------------


def _fails(uri: str, message: str) -> TrackingError:
    started = time.monotonic()
    with pytest.raises(TrackingError, match=message) as caught:
        MlflowRuns(uri, environ=os.environ).deliver(record_of(), Destination(), key="a")
    assert time.monotonic() - started < 25  # minutes, if MLflow had its way
    return caught.value


def test_a_port_where_nobody_listens() -> None:
    error = _fails(f"http://127.0.0.1:{free_port()}", "cannot be reached")
    assert "MLFLOW_TRACKING_URI" in error.hint


def test_a_server_that_never_answers() -> None:
    with silent_server() as uri:
        _fails(uri, "cannot be reached")


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_to_know_who_we_are(status: int) -> None:
    with refusing_server(status) as uri:
        assert "MLFLOW_TRACKING_USERNAME" in _fails(uri, rf"refuses us \(HTTP {status}\)").hint


def test_a_refusal_in_mlflows_own_form() -> None:
    with refusing_server(403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}') as uri:
        _fails(uri, "refuses us")


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_server_that_fails_or_is_no_mlflow(status: int) -> None:
    with refusing_server(status) as uri:
        _fails(uri, rf"failed \(HTTP {status}\)")


def test_a_server_that_answers_with_a_web_page() -> None:
    with refusing_server(200, b"<html>hello</html>") as uri:
        _fails(uri, "does not work")


def test_a_password_is_in_no_message() -> None:
    error = _fails(f"http://anna:hunter2@127.0.0.1:{free_port()}", "cannot be reached")
    assert "hunter2" not in "\n".join([error.message, error.hint, *error.details])


@pytest.mark.parametrize("content", [b"not a database" * 100, None])
def test_a_database_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "mlflow.db"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    _fails(f"sqlite:///{file}", "the MLflow store .* cannot be used")


def test_a_database_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    error = _fails("nosuchscheme://127.0.0.1/x", "does not work")
    assert error.exit_code == 3


def test_an_artifact_store_that_cannot_be_written_leaves_the_record_waiting(sqlite: Store, tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path / "outbox")
    mlruns = tmp_path / "store" / "mlruns"
    mlruns.write_text("a file where the artifacts should go")
    with pytest.raises(TrackingError, match="the record waits in"):
        deliver(record_of(), sqlite.destination, runs=sqlite.runs, outbox=outbox)
    mlruns.unlink()
    [delivery] = deliver_pending(runs=sqlite.runs, outbox=outbox)
    assert delivery.run_id is not None
    assert sqlite.look(delivery.run_id)[2] == record_of().artifacts
    assert sqlite.count() == 1


# --- which store ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "with space", "zażółć", "100%", "a?b"])
def test_the_default_store_is_the_one_that_a_training_script_uses(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    uri = default_tracking_uri({}, folder)
    nothing = Record(tags={}, params={}, artifacts={})
    run_id = MlflowRuns(uri, environ=os.environ).deliver(nothing, Destination(), key="a")
    assert (folder / "mlflow.db").is_file()
    script = f"import mlflow; print(mlflow.get_run({run_id!r}).info.run_id)"
    if name in {"plain", "with space"}:  # MLflow's own default does not find its way in the others
        assert python(script, cwd=folder).stdout.decode().strip() == run_id


def test_mlflows_own_setting_is_followed_from_any_folder(tmp_path: Path) -> None:
    assert default_tracking_uri({"MLFLOW_TRACKING_URI": "http://x.example.org"}, tmp_path) == "http://x.example.org"
    assert default_tracking_uri({"MLFLOW_TRACKING_URI": "sqlite:///a.db"}, tmp_path) == f"sqlite:///{tmp_path}/a.db"
    assert located("sqlite:////abs/a.db?x=1", tmp_path) == "sqlite:////abs/a.db?x=1"
    assert located("mlruns", tmp_path) == f"file://{tmp_path}/mlruns"
    assert located("databricks", tmp_path) == "databricks"


def test_credentials_of_the_configuration_serve_the_record_that_waits_without_them(sqlite: Store) -> None:
    environ = {"MLFLOW_TRACKING_URI": "https://anna:hunter2@mlflow.example.org"}
    runs = MlflowRuns("sqlite:///x.db", environ=environ)
    assert runs._uri("https://mlflow.example.org") == environ["MLFLOW_TRACKING_URI"]
    assert runs._uri("https://other.example.org") == "https://other.example.org"
    assert runs._uri(None) == "sqlite:///x.db"
