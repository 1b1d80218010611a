"""``diff``: what differs between two environments, worst suspects first."""

from envlock.diff.compare import compare
from envlock.diff.report import as_json, as_markdown, as_text

__all__ = ["as_json", "as_markdown", "as_text", "compare"]
