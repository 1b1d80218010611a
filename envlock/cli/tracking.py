"""Which MLflow store, experiment and run are meant, and the way of a record there; for ``build`` and ``record``."""

from __future__ import annotations

from collections.abc import Sequence

from envlock.adapters.mlflow_store import default_tracking_uri, located
from envlock.cli.world import World
from envlock.errors import EnvlockError, UsageError
from envlock.model.lock import Lock
from envlock.model.record import Destination, Record
from envlock.record import Delivery, deliver, deliver_pending


def destination_of(lock: Lock | None, *, run_id: str | None, experiment: str | None, world: World) -> Destination:
    """Return where a record goes: options first, then the lock, then MLflow's own settings.

    The result means the same from every folder and at every later time.
    """
    if run_id and experiment:
        raise UsageError("--run-id and --experiment exclude each other", hint="a run has its experiment already")
    wanted = lock.mlflow.tracking_uri if lock is not None else None
    uri = located(wanted, world.cwd) if wanted else default_tracking_uri(world.environ, world.cwd)
    run = run_id or (None if experiment else world.environ.get("MLFLOW_RUN_ID"))
    named = experiment or (lock.mlflow.experiment if lock is not None else None)
    return Destination(
        tracking_uri=uri,
        run_id=run or None,
        experiment=None if run else named or world.environ.get("MLFLOW_EXPERIMENT_NAME") or None,
    )


def send(record: Record, destination: Destination, *, world: World) -> str:
    """Deliver a record, and after it whatever waited before; return the run's ID."""
    with world.progress.task("Recording with MLflow"):
        run_id = deliver(record, destination, runs=world.runs(destination.tracking_uri), outbox=world.outbox)
    tell(send_pending(world=world), world=world)
    return run_id


def send_pending(*, world: World) -> Sequence[Delivery]:
    """Deliver what waits in the outbox."""
    return deliver_pending(runs=world.runs(None), outbox=world.outbox)


def tell(deliveries: Sequence[Delivery], *, world: World) -> None:
    """Say what became of waiting records."""
    for delivery in deliveries:
        if delivery.error is None:
            world.progress.message(f"delivered a waiting record to run {delivery.run_id}")
        else:
            where = world.outbox.place(delivery.key)
            world.progress.message(f"a record still waits in {where}: {_reason(delivery.error)}")


def _reason(error: EnvlockError) -> str:
    return ": ".join([error.message, *error.details])
