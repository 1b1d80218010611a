"""Reading a run's environment back out of MLflow."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from envlock.formats.environments import environment_of_lock, environment_of_notes, with_run
from envlock.formats.listings import LISTINGS, Listing
from envlock.formats.lock_json import load_lock
from envlock.model.environment import Environment

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK = "envlock/envlock.lock"
_DEEPEST = 3  # folders below the artifact root that are searched
_FOLDERS = 40  # at most; a run may hold thousands of checkpoints, and each folder is a request


def read_environment(run: Any, client: MlflowClient, *, title: str) -> Environment:
    """Return a run's environment; raises ``LockError`` where its lock is damaged."""
    run_id = run.info.run_id
    notes = {"params": dict(run.data.params), "tags": dict(run.data.tags)}
    content = read_artifact(run_id, LOCK, client)
    if content is not None:
        lock = load_lock(content, file=f"{LOCK} of run {run_id}")
        return with_run(environment_of_lock(lock, title=title), **notes)
    return environment_of_notes(title=title, listing=_listing(run_id, client), **notes)


def read_artifact(run_id: str, path: str, client: MlflowClient) -> bytes | None:
    """Return an artifact's bytes, or None where the run has no such file."""
    parent = str(PurePosixPath(path).parent)
    entries = client.list_artifacts(run_id, None if parent == "." else parent)
    if not any(entry.path == path and not entry.is_dir for entry in entries):
        return None
    with tempfile.TemporaryDirectory(prefix="envlock-") as folder:
        return Path(client.download_artifacts(run_id, path, folder)).read_bytes()


def _listing(run_id: str, client: MlflowClient) -> Listing | None:
    """Return the best list of packages among the run's artifacts: the nearest to the root, complete ones first."""
    order = list(LISTINGS)
    found = sorted(
        (path.count("/"), order.index(PurePosixPath(path).name), path)
        for path in _files(run_id, client)
        if PurePosixPath(path).name in LISTINGS
    )
    for _, _, path in found:
        content = read_artifact(run_id, path, client)
        listing = LISTINGS[PurePosixPath(path).name](content.decode(errors="replace")) if content is not None else None
        if listing is not None and listing.packages:
            return listing
    return None


def _files(run_id: str, client: MlflowClient) -> Iterator[str]:
    waiting: deque[str | None] = deque([None])
    for _ in range(_FOLDERS):
        if not waiting:
            return
        for entry in client.list_artifacts(run_id, waiting.popleft()):
            if not entry.is_dir:
                yield entry.path
            elif entry.path.count("/") < _DEEPEST:
                waiting.append(entry.path)
