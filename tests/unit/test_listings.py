from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envlock.formats.listings import LISTINGS, parse_conda, parse_freeze


def test_pip_freeze() -> None:
    listing = parse_freeze(
        "# comment\nNumPy==1.26.4\ntorch[cuda]==2.1.2+cu118 ; python_version > '3'\n"
        "a @ file:///w/a-1.2-py3-none-any.whl#sha256=0\nb @ git+https://example.org/b@abc\n"
        "scipy==1.11.4 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"
    )
    assert listing.complete
    assert listing.packages == {
        "numpy": "1.26.4",
        "torch": "2.1.2+cu118",
        "a": "1.2",
        "b": "@ git+https://example.org/b@abc",
        "scipy": "1.11.4",
    }


def test_a_line_without_a_version_makes_a_list_incomplete() -> None:
    assert not parse_freeze("numpy\n").complete
    assert not parse_freeze("numpy>=1\n").complete
    assert not parse_freeze("-e git+https://example.org/x#egg=x\n").complete


def test_conda_environment_file_and_conda_list_export() -> None:
    text = "name: x\ndependencies:\n- python=3.10.14\n- conda-forge::numpy=1.24.3=py310h0\n- pip:\n  - torch==2.1.2\n"
    listing = parse_conda(text)
    assert (listing.python, listing.packages) == ("3.10.14", {"numpy": "1.24.3", "torch": "2.1.2"})
    listing = parse_conda("# platform: linux-64\nnumpy=1.24.3=py310h0\npython=3.10.14=h1\n")
    assert (listing.python, listing.packages) == ("3.10.14", {"numpy": "1.24.3"})


@given(st.text())
def test_any_text_is_some_list(text: str) -> None:
    for parse in LISTINGS.values():
        for name, version in parse(text).packages.items():
            assert name
            assert version
