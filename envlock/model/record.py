"""What MLflow keeps of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Tags, params and artifacts for one run. Recording it twice changes nothing."""

    tags: Mapping[str, str]  # at most 8,000 characters each
    params: Mapping[str, str]  # at most 6,000 characters each
    artifacts: Mapping[str, bytes]  # path below the run's artifact root → content


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Which run a record goes to: an existing one, or a new one in an experiment."""

    tracking_uri: str | None = None
    run_id: str | None = None
    experiment: str | None = None
    run_name: str | None = None
