"""What is in an image, against its lock."""

from __future__ import annotations

import pytest

from envlock.formats.installed import as_installed, differences
from envlock.formats.probe import Probed
from envlock.model.image import Installed
from tests.support.locks import make_lock, make_wheel


def installed(packages: dict[str, str], python: str = "3.11.2") -> Installed:
    return Installed(python_version=python, packages=packages, freeze="")


LOCK = make_lock(wheels=(make_wheel("numpy", "2.1.0"), make_wheel("torch", "2.1.2+cu118")))
RIGHT = {"numpy": "2.1.0", "torch": "2.1.2+cu118"}


def test_nothing_differs():
    assert differences(installed(RIGHT), LOCK) == ()
    assert differences(installed({**RIGHT, "numpy": "2.1"}), LOCK) == ()  # PEP 440: the same version


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (installed(RIGHT, "3.11.9"), "Python: 3.11.2 in the lock, 3.11.9 in the image"),
        (installed({"torch": "2.1.2+cu118"}), "numpy: 2.1.0 in the lock, missing in the image"),
        (installed({**RIGHT, "six": "1.16"}), "six: not in the lock, 1.16 in the image"),
        (installed({**RIGHT, "torch": "2.1.2"}), "torch: 2.1.2+cu118 in the lock, 2.1.2 in the image"),
        (installed({**RIGHT, "numpy": "@ file:///x"}), "numpy: 2.1.0 in the lock, @ file:///x in the image"),
    ],
)
def test_one_thing_differs(found, said):
    assert differences(found, LOCK) == (said,)


def test_what_pip_lists_or_else_the_metadata():
    probed = Probed(
        python="3.11.2", full="3.11.2 (main)", packages={"b-c": "1", "a": "2"}, torch="2.1+cu118", cuda=None
    )
    without = as_installed(probed, None)
    assert (without.packages, without.freeze) == ({"a": "2", "b-c": "1"}, "a==2\nb-c==1\n")
    assert without.reported == {"python": "3.11.2 (main)", "torch": "2.1+cu118"}
    with_pip = as_installed(probed, "B.c==1\npip==25.0\n")
    assert (with_pip.packages, with_pip.freeze) == ({"b-c": "1", "pip": "25.0"}, "B.c==1\npip==25.0\n")
