"""The Docker engine's adapter, under the name that the command line wires."""

from __future__ import annotations

from envlock.adapters.engine.engine import DockerEngine

__all__ = ["DockerEngine"]
