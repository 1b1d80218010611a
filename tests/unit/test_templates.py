from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from envlock.formats import templates


def test_a_wheel_has_them_in_the_package_and_a_checkout_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "envlock"
    package.mkdir()
    with pytest.raises(FileNotFoundError):
        templates.folder(package)
    (tmp_path / "templates").mkdir()
    assert templates.folder(package) == tmp_path / "templates"
    (package / "templates").mkdir()
    assert templates.folder(package) == package / "templates"


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        templates.render("diff.md.j2", verdict="x")


def test_nothing_is_escaped_and_the_last_newline_stays() -> None:
    text = templates.render("diff.md.j2", verdict="<&>", before="a", after="b", groups=[], unknown=[])
    assert "**<&>**" in text
    assert text.endswith("- after: b\n")
