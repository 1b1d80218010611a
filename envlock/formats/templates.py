"""The Jinja2 templates that ship with envlock."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGE = Path(__file__).resolve().parent.parent


def folder(package: Path = _PACKAGE) -> Path:
    """Return where the templates are: in the package as a wheel installs it, else at the checkout's top level.

    Raises ``FileNotFoundError`` where neither is there: a broken installation, not something a user can cause.
    """
    places = (package / "templates", package.parent / "templates")
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"envlock's templates are in none of {', '.join(map(str, places))}")


@cache
def _environment(place: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - few commands render anything

    # Nothing that we write is HTML: escaping is each format's own, by the values or by a filter of the template.
    return Environment(
        loader=FileSystemLoader(place),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )


def render(name: str, /, **values: object) -> str:
    """Render ``templates/<name>``; a value that the template misses is an error (StrictUndefined)."""
    return _environment(folder()).get_template(name).render(**values)
