"""Talking to MLflow: bounded in time, silent, and with its errors in our words.

MLflow takes its timeouts, its switches and its log levels from process-wide places only. They are set for the length of
a conversation and put back afterwards; what the user has set stays. MLflow's own tracking URI is never touched.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from envlock.adapters.mlflow_store.location import sqlite_file
from envlock.errors import EnvlockError, TrackingError
from envlock.formats.urls import scrub, without_credentials

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

# MLflow retries for about four minutes. A server that does not answer is known after two attempts of this length…
KNOCK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# …and one that has answered once is given more time, for uploads too.
TALK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
_ALWAYS = {
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a command-line tool is no place to report usage from
}
# Where a new local store keeps artifacts; without it, in a folder below wherever the command happens to be started.
_ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
_DATABASE_ATTEMPTS = 3  # MLflow makes 10, doubling the pause: 102 s for a database that is not there
_LOGGERS = ("mlflow", "alembic", "sqlalchemy", "urllib3")
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_REFUSED = frozenset({401, 403})
_STATUS = re.compile(r"error code (\d{3})\b|\b(\d{3}) (?:Client|Server) Error|too many (\d{3}) error responses")
_LONGEST = 400  # characters of MLflow's own message that we show
_one_at_a_time = threading.RLock()


@contextmanager
def session(uri: str, environ: MutableMapping[str, str]) -> Iterator[MlflowClient]:
    """Give a client for a tracking URI; whatever fails inside becomes ``TrackingError``.

    ``environ`` is the process's own environment: MLflow looks nowhere else for its settings.
    """
    file = sqlite_file(uri)
    root = {} if file is None else {_ARTIFACT_ROOT: str(file.parent / "mlruns")}
    with _one_at_a_time, _settings(environ, {**_ALWAYS, **KNOCK, **root}), _silence():
        try:
            if file is not None:
                _check_sqlite(file)
            with _fewer_attempts():
                yield _client(uri)
        except EnvlockError:
            raise
        except Exception as error:
            raise _translated(error, uri, environ) from error


@contextmanager
def patience(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Give a server that has answered more time, inside a session."""
    added = [name for name, value in KNOCK.items() if environ.get(name) == value]
    with _settings(environ, {name: TALK[name] for name in added}, replace=True):
        yield


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient  # noqa: PLC0415 - takes 1.6 s

    return MlflowClient(tracking_uri=uri)


@contextmanager
def _settings(environ: MutableMapping[str, str], values: Mapping[str, str], *, replace: bool = False) -> Iterator[None]:
    before = {name: environ.get(name) for name in values}
    for name, value in values.items():
        if replace or before[name] is None:
            environ[name] = value
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                environ.pop(name, None)
            else:
                environ[name] = old


@contextmanager
def _silence() -> Iterator[None]:
    """Keep MLflow's prints, warnings and log lines out of our streams; its errors reach us as exceptions."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImportError):  # said by whoever needs it
            import mlflow  # noqa: F401, PLC0415 - it sets its log levels when it is imported
        loggers = [logging.getLogger(name) for name in _LOGGERS]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _fewer_attempts() -> Iterator[None]:
    from mlflow.store.db import utils  # noqa: PLC0415

    before = getattr(utils, "MAX_RETRY_COUNT", None)
    if before is None:  # another MLflow, that has no such constant
        yield
        return
    utils.MAX_RETRY_COUNT = _DATABASE_ATTEMPTS
    try:
        yield
    finally:
        utils.MAX_RETRY_COUNT = before


def _check_sqlite(file: Path) -> None:
    """Find out what is wrong with a SQLite file before MLflow does, in seconds and in plain words."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(file, timeout=5)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(
            f"the MLflow store {file} cannot be used: {error}",
            hint="check the file and its folder, or name another store with MLFLOW_TRACKING_URI",
        ) from error


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error of MLflow or of its artifact store comes from."""
    response: Any = getattr(error, "response", None)
    if response is not None and isinstance(getattr(response, "status_code", None), int):
        return int(response.status_code)
    found = _STATUS.search(str(error))
    if found:
        return int(next(filter(None, found.groups())))
    code = getattr(error, "error_code", None)
    return {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}.get(str(code))


def _translated(error: Exception, uri: str, environ: Mapping[str, str]) -> TrackingError:
    place = without_credentials(uri)
    if isinstance(error, ImportError):
        return TrackingError(f"MLflow or a part of it is not installed: {error}", hint="pip install mlflow")
    status = status_of(error)
    if status in _REFUSED:
        return TrackingError(
            f"MLflow at {place} refuses us (HTTP {status})",
            hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )
    text = scrub(" ".join(str(error).split()), secrets=[environ.get(name, "") for name in _SECRETS])
    reason = (text[:_LONGEST] + "…" if len(text) > _LONGEST else text) or type(error).__name__
    if status is not None:
        return TrackingError(f"MLflow at {place} failed (HTTP {status})", details=[reason])
    return TrackingError(
        f"MLflow at {place} cannot be reached or does not work",
        details=[reason],
        hint="check MLFLOW_TRACKING_URI and that the server runs",
    )
