"""Image registries over HTTP (OCI distribution spec), without an engine."""

from __future__ import annotations

from envlock.adapters.registry.registry import HttpRegistry

__all__ = ["HttpRegistry"]
