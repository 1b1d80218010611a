"""Write a first spec from what is there."""

from envlock.init.found import Found, LeftOut, as_name
from envlock.init.from_conda import from_conda
from envlock.init.from_live import from_live
from envlock.init.from_pyproject import from_pyproject
from envlock.init.from_requirements import from_requirements
from envlock.init.source import SOURCES, read_source
from envlock.init.write import Choices, spec_text

__all__ = [
    "SOURCES",
    "Choices",
    "Found",
    "LeftOut",
    "as_name",
    "from_conda",
    "from_live",
    "from_pyproject",
    "from_requirements",
    "read_source",
    "spec_text",
]
