"""The Docker engine, through its SDK."""

from __future__ import annotations

from envlock.adapters.engine.engine import DockerEngine

__all__ = ["DockerEngine"]
