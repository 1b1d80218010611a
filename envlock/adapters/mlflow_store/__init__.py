"""MLflow as a run store. MLflow itself is imported only when it is needed: that takes 1.6 s."""

from envlock.adapters.mlflow_store.location import default_tracking_uri, located
from envlock.adapters.mlflow_store.store import MlflowRuns

__all__ = ["MlflowRuns", "default_tracking_uri", "located"]
