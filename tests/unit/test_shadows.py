"""Files that several packages have: which of them stays, and which packages have to be compared at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from envlock.errors import InputError
from envlock.layers.shadows import Files, shadowed, tops, touching
from envlock.layers.target import Target

TARGET = Target(python="3.11.2")
SITE = TARGET.site_packages.lstrip("/")
VENV = TARGET.venv.lstrip("/")

names = some.sampled_from("abc")
inside = some.lists(names, min_size=1, max_size=3).map("/".join)
places = some.sampled_from([SITE, VENV, f"{VENV}/bin", f"{VENV}/share/man", f"{VENV}/include/site/python3.11/a"])
paths = some.lists(some.tuples(places, inside).map("/".join), max_size=4, unique=True)


def test_of_two_owners_the_one_that_pip_installs_last_wins() -> None:
    lost = shadowed(
        {
            "zeta": Files(["a", "z"], True),
            "beta": Files(["a", "b"], True),
            "alpha": Files(["a", "c"], False),  # nothing about Python: installed before the others
        }
    )
    assert lost == {"zeta": {"a"}, "alpha": {"a"}}


def test_one_package_s_file_is_another_s_folder() -> None:
    with pytest.raises(InputError, match=r"one and two cannot be installed together: /opt/x"):
        shadowed({"one": Files(["opt/x"], True), "two": Files(["opt/x/y"], True)})


def test_only_packages_that_touch_each_other_are_compared() -> None:
    packages = {
        "numpy": [f"{SITE}/numpy/__init__.py", f"{SITE}/numpy/core/x.so", f"{VENV}/bin/f2py"],
        "six": [f"{SITE}/six.py", f"{SITE}/six-1.dist-info/RECORD", f"{VENV}/bin/six"],
        "google-auth": [f"{SITE}/google/auth/__init__.py"],
        "google-api": [f"{SITE}/google/api/__init__.py"],
        "manual": [f"{VENV}/share/man/man1/x.1"],
        "share": [f"{VENV}/share"],
    }
    found = {name: tops(paths, TARGET) for name, paths in packages.items()}
    assert found["numpy"] == [f"{VENV}/bin/f2py", f"{SITE}/numpy"]
    assert found["manual"] == [f"{VENV}/share/man"]
    assert touching(found) == {"google-api", "google-auth", "manual", "share"}


@given(some.dictionaries(some.sampled_from(["one", "two", "three", "four"]), some.tuples(paths, some.booleans())))
def test_comparing_those_that_touch_finds_what_comparing_all_finds(packages: dict[str, tuple[list[str], bool]]) -> None:
    files = {name: Files(*found) for name, found in packages.items()}
    close = touching({name: tops(found.paths, TARGET) for name, found in files.items()})
    few = {name: files[name] for name in close}
    try:
        everything = shadowed(files)
    except InputError:
        # A package's own files never clash: that is found where the wheel is read.
        if all(_sound(found.paths) for found in files.values()):
            with pytest.raises(InputError, match="cannot be installed together"):
                shadowed(few)
    else:
        assert shadowed(few) == everything


def _sound(paths: list[str]) -> bool:
    return not any(other.startswith(f"{path}/") for path in paths for other in paths)
