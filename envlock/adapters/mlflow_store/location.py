"""Which tracking store is meant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

_SQLITE = "sqlite:///"


def default_tracking_uri(environ: Mapping[str, str], cwd: Path) -> str:
    """Return the store that MLflow itself would use here: ``MLFLOW_TRACKING_URI``, else SQLite in ``mlflow.db``.

    A training script that is started in the same folder finds the same store. As MLflow does, we stay with a plain
    file store that is already there, where MLflow still allows one (``MLFLOW_ALLOW_FILE_STORE``).
    """
    configured = environ.get("MLFLOW_TRACKING_URI", "").strip()
    if configured:
        return located(configured, cwd)
    allowed = environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in {"true", "1"}
    if allowed and any((cwd / "mlruns").glob("[0-9]*/meta.yaml")):
        return (cwd / "mlruns").as_uri()
    return _SQLITE + _quoted(cwd / "mlflow.db")


def located(uri: str, cwd: Path) -> str:
    """Return a tracking URI that means the same from every folder: a relative SQLite file or folder made absolute."""
    if uri.startswith(_SQLITE):
        path, query, options = uri.removeprefix(_SQLITE).partition("?")
        return f"{_SQLITE}{_quoted(cwd / unquote(path))}{query}{options}" if path else uri
    if ":" not in uri and uri not in {"databricks", "databricks-uc", "uc"}:
        return (cwd / uri).as_uri()
    return uri


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store."""
    path = uri.removeprefix(_SQLITE).partition("?")[0]
    return Path(unquote(path)) if uri.startswith(_SQLITE) and path else None


def _quoted(path: Path) -> str:
    # only what the URI needs: MLflow would make a stray folder of the quoted name for anything else
    return str(path).replace("%", "%25").replace("?", "%3F")
