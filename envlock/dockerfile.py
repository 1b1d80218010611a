"""``dockerfile``: a plan as a person would have written it."""

from __future__ import annotations

from envlock.formats.dockerfile import dockerfile

__all__ = ["dockerfile"]
