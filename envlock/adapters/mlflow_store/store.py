"""The run store on MLflow's client."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envlock.adapters.mlflow_store.reading import read_artifact, read_environment
from envlock.adapters.mlflow_store.session import patience, session, status_of
from envlock.errors import InputError
from envlock.formats.urls import without_credentials
from envlock.model.environment import Environment
from envlock.model.record import Destination, Record

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "envlock.record_key"  # on a run that we created: which waiting record it was created for
RECORDED_TAG = "envlock.recorded"  # set last: the hash of the record that the run has in full
BATCH = 100  # MLflow's own limit (mlflow.utils.validation)
_NOT_FOUND = 404


class MlflowRuns:
    """Implements ``ports.RunStore``.

    ``tracking_uri`` is the store where a destination names none. ``environ`` is the process's own environment, where
    MLflow looks for credentials and settings; ``note`` is told what the user should know and nothing needs to stop for.
    """

    def __init__(
        self, tracking_uri: str, *, environ: MutableMapping[str, str], note: Callable[[str], None] = lambda _: None
    ) -> None:
        self._default = tracking_uri
        self._environ = environ
        self._note = note

    def deliver(self, record: Record, destination: Destination, *, key: str) -> str:
        """Put a record into a run: artifacts, params, and the tags last, so that a run with all tags has it all."""
        with session(self._uri(destination.tracking_uri), self._environ) as client:
            created = destination.run_id is None
            run = _run_for(key, destination, client) if destination.run_id is None else _run(destination.run_id, client)
            digest = _digest(record)
            if run.data.tags.get(RECORDED_TAG) != digest and run.info.lifecycle_stage == "active":
                with patience(self._environ):
                    self._fill(client, run, record, digest, finish=created)
            return str(run.info.run_id)

    def environment(self, run_id: str, *, title: str) -> Environment:
        """Read a run's environment from its lock, else from whatever lists of packages and params it has."""
        with session(self._default, self._environ) as client:
            run = _run(run_id, client, deleted_too=True)
            with patience(self._environ):
                return read_environment(run, client, title=title)

    def artifact(self, run_id: str, path: str) -> bytes | None:
        """Return one artifact of a run."""
        with session(self._default, self._environ) as client:
            _run(run_id, client, deleted_too=True)
            with patience(self._environ):
                return read_artifact(run_id, path, client)

    def _uri(self, wanted: str | None) -> str:
        # A waiting record knows its store without credentials; those are in the configuration, if anywhere.
        for configured in (self._default, self._environ.get("MLFLOW_TRACKING_URI", "")):
            if wanted is None or without_credentials(configured) == wanted:
                return configured
        return wanted or self._default

    def _fill(self, client: MlflowClient, run: Any, record: Record, digest: str, *, finish: bool) -> None:
        run_id = run.info.run_id
        _upload(record.artifacts, run_id, client)
        kept = _log_params(record.params, run_id, client)
        for name, (there, ours) in kept.items():
            self._note(
                f"run {run_id} has {name} = {there!r} already, and a param cannot change: "
                f"the image's {ours!r} is in the tag envlock.{name}"
            )
        if finish and run.info.status == "RUNNING":
            client.set_terminated(run_id)
        tags = {**record.tags, **{f"envlock.{name}": ours for name, (_, ours) in kept.items()}}
        for batch in _batches({**tags, RECORDED_TAG: digest}):
            client.log_batch(run_id, tags=[_entity("RunTag", name, value) for name, value in batch])


def _run(run_id: str, client: MlflowClient, *, deleted_too: bool = False) -> Any:
    with _unknown(f"there is no run {run_id} in this MLflow store", "check the ID and MLFLOW_TRACKING_URI"):
        run = client.get_run(run_id)
    if run.info.lifecycle_stage != "active" and not deleted_too:
        raise InputError(f"run {run_id} is deleted", hint=f"bring it back with 'mlflow runs restore --run-id {run_id}'")
    return run


def _run_for(key: str, destination: Destination, client: MlflowClient) -> Any:
    """Return the run that was created for this key, by us or by whoever tried before us, or create it."""
    from mlflow.entities import ViewType  # noqa: PLC0415

    experiment = _experiment(destination.experiment or "Default", client)
    found = client.search_runs(
        [experiment], filter_string=f"tags.`{KEY_TAG}` = '{key}'", run_view_type=ViewType.ALL, max_results=1
    )
    if found:
        return client.get_run(found[0].info.run_id)
    return client.create_run(experiment, tags={KEY_TAG: key}, run_name=destination.run_name)


def _experiment(name: str, client: MlflowClient) -> str:
    experiment: Any = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)  # another process was quicker
    if experiment.lifecycle_stage != "active":
        number = experiment.experiment_id
        raise InputError(
            f"the MLflow experiment {name!r} is deleted",
            hint=f"bring it back with 'mlflow experiments restore --experiment-id {number}', or name another",
        )
    return str(experiment.experiment_id)


@contextmanager
def _unknown(message: str, hint: str) -> Iterator[None]:
    """Turn MLflow's "no such thing" into ``InputError``; a server that is no MLflow at all also says 404."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "error_code", None)
        if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"} and status_of(error) != _NOT_FOUND:
            raise InputError(message, hint=hint) from error
        raise


def _upload(artifacts: Mapping[str, bytes], run_id: str, client: MlflowClient) -> None:
    with tempfile.TemporaryDirectory(prefix="envlock-") as folder:
        for path, content in artifacts.items():
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        client.log_artifacts(run_id, folder)


def _log_params(params: Mapping[str, str], run_id: str, client: MlflowClient) -> dict[str, tuple[str, str]]:
    """Log the params that the run lacks; return those that it has with another value: name → (there, ours)."""
    for attempt in range(3):
        there = client.get_run(run_id).data.params
        missing = {name: value for name, value in params.items() if name not in there}
        try:
            for batch in _batches(missing):
                client.log_batch(run_id, params=[_entity("Param", name, value) for name, value in batch])
        except Exception as error:
            # the training script itself may have logged one of them since we looked
            if getattr(error, "error_code", None) != "INVALID_PARAMETER_VALUE" or attempt == 2:  # noqa: PLR2004
                raise
        else:
            return {name: (there[name], value) for name, value in params.items() if there.get(name, value) != value}
    raise AssertionError


def _batches(values: Mapping[str, str]) -> Iterator[list[tuple[str, str]]]:
    pairs = list(values.items())
    for start in range(0, len(pairs), BATCH):
        yield pairs[start : start + BATCH]


def _entity(kind: str, name: str, value: str) -> Any:
    from mlflow import entities  # noqa: PLC0415

    return getattr(entities, kind)(name, value)


def _digest(record: Record) -> str:
    form = {
        "tags": dict(record.tags),
        "params": dict(record.params),
        "artifacts": {path: hashlib.sha256(content).hexdigest() for path, content in record.artifacts.items()},
    }
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()
