"""Unpacking what a base's Python needs: nothing else, nowhere else, and as an engine lays layers over each other."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from envlock.adapters.bases.overlay import Overlay
from envlock.adapters.bases.python_files import python_files
from envlock.errors import WorldError
from tests.support.bases import PLATFORM, MadeBase, MemoryRegistry, layer, unpacked_bases
from tests.support.locks import make_base
from tests.support.tars import Made, entry, folder, hard_link, link


def unpack(place: Path, *layers: Sequence[Made], wanted=lambda path, *, link: True) -> dict[str, str]:
    """Return path → content, "→ target" for links."""
    spool, root = place / "spool", place / "root"
    for made in (spool, root):
        made.mkdir(parents=True)
    overlay = Overlay(spool, wanted=wanted)
    for entries in layers:
        overlay.add(io.BytesIO(layer(*entries)))
    overlay.write(root)
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = f"→ {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(root))] = path.read_text("latin-1")
    return found


def test_layers_lie_over_each_other(tmp_path: Path) -> None:
    below = [
        folder("./a"),
        entry("./a/kept", b"1"),
        entry("./a/changed", b"1"),
        entry("./a/gone", b"1"),
        entry("./b/hidden", b"1"),
        entry("./c/file", b"1"),
        link("./d", "a"),
        entry("./e", b"1"),
        entry("./f/deep/er", b"1"),
        entry("./g", b"1"),
    ]
    above = [
        entry("a/changed", b"2"),
        entry("a/.wh.gone"),
        entry("b/new", b"2"),
        entry("b/.wh..wh..opq"),  # hides what is below, and not what came before it in the same layer
        link("c", "a"),  # instead of a folder
        folder("d"),  # instead of a link
        entry("d/own", b"2"),
        folder("e"),  # instead of a file
        entry("e/own", b"2"),
        entry("f", b"2"),  # a file instead of a folder
        entry("g/own", b"2"),  # a folder that nothing names instead of a file
    ]
    assert unpack(tmp_path, below, above) == {
        "a/kept": "1",
        "a/changed": "2",
        "b/new": "2",
        "c": "→ a",
        "d/own": "2",
        "e/own": "2",
        "f": "2",
        "g/own": "2",
    }


def test_links_in_paths_are_followed_as_in_the_image(tmp_path: Path) -> None:
    below = [folder("usr"), link("lib", "usr/lib"), link("abs", "/usr/lib"), entry("usr/lib/x", b"1")]
    above = [entry("lib/y", b"2"), entry("abs/.wh.x"), hard_link("usr/twin", "lib/y")]
    assert unpack(tmp_path, below, above) == {
        "abs": "→ usr/lib",
        "lib": "→ usr/lib",
        "usr/lib/y": "2",
        "usr/twin": "2",
    }


def test_a_twin_is_a_file_of_its_own(tmp_path: Path) -> None:
    found = unpack(tmp_path, [entry("a", b"1"), hard_link("b", "a")], [entry("a", b"2")])
    assert found == {"a": "2", "b": "1"}
    assert unpack(tmp_path / "2", [hard_link("b", "not there")]) == {}


def test_absolute_links_stay_inside(tmp_path: Path) -> None:
    entries = [
        entry("usr/bin/python3.11", b"1"),
        link("etc/alternatives/python3", "/usr/bin/python3.11"),
        link("usr/bin/python3", "/etc/alternatives/python3"),
        link("usr/out", "../../../../../etc/passwd"),
        link("top", "/"),
        link("usr/up", "//.."),
    ]
    assert unpack(tmp_path, entries) == {
        "etc/alternatives/python3": "→ ../../usr/bin/python3.11",
        "top": "→ .",
        "usr/bin/python3": "→ ../../etc/alternatives/python3",
        "usr/bin/python3.11": "1",
        "usr/out": "→ ../etc/passwd",
        "usr/up": "→ ..",
    }


@pytest.mark.parametrize(
    "made",
    [
        entry("../x", b"1"),
        entry("a/../../x", b"1"),
        hard_link("x", "../../etc/passwd"),
        folder(".."),
        link("../x", "y"),
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, made: Made) -> None:
    with pytest.raises(WorldError, match="leads out"):
        unpack(tmp_path, [entry("x", b"1"), made])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "spool"]


def test_links_in_a_circle(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="circle"):
        unpack(tmp_path, [link("a", "b"), link("b", "a"), entry("a/x", b"1")])


def test_what_a_layer_says_of_owners_and_devices_does_not_matter(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        [
            entry("suid", b"1", mode=0o6755, uid=12345),
            entry("plain", b"1", mode=0o600),
            entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("disk", type=tarfile.BLKTYPE),
            entry("pipe", type=tarfile.FIFOTYPE),
        ],
    )
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "root").iterdir()}
    assert modes == {"suid": 0o755, "plain": 0o644}
    assert {path.stat().st_uid for path in (tmp_path / "root").iterdir()} == {os.getuid()}


PARTS = some.sampled_from(["a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq", "é", "x" * 40])
NAMES = some.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = some.one_of(NAMES, NAMES.map(lambda name: "/" + name), some.just("/etc/passwd"))
ENTRIES = some.one_of(
    some.builds(entry, NAMES, some.binary(max_size=20)),
    NAMES.map(folder),
    some.builds(link, NAMES, TARGETS),
    some.builds(hard_link, NAMES, TARGETS),
    NAMES.map(lambda name: entry(name, type=tarfile.FIFOTYPE)),
)


@settings(max_examples=200, deadline=None)
@given(layers=some.lists(some.lists(ENTRIES, max_size=8), max_size=3))
def test_nothing_ever_lands_outside(layers: list[list[Made]], tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("place")
    outside = place / "outside"
    outside.write_text("untouched")
    try:
        unpack(place / "in", *layers)
    except WorldError:
        assert list((place / "in" / "root").iterdir()) == []
    assert outside.read_text() == "untouched"
    assert sorted(path.name for path in place.iterdir()) == ["in", "outside"]
    root = (place / "in" / "root").resolve()
    for folder_, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder_) / name
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
            try:
                real = path.resolve()
            except (OSError, RuntimeError):
                continue  # a circle, or a name that is too long
            assert real == root or root in real.parents, (path, path.readlink())


# --- the rules --------------------------------------------------------------------------------------------------------

WANTED = """
    usr/bin/python3.11
    usr/lib/python3.11/encodings/utf_8.py
    usr/lib/python3.11/__pycache__/os.cpython-311.pyc
    usr/lib/python3.11/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so
    usr/lib/x86_64-linux-gnu/libc.so.6
    usr/lib/x86_64-linux-gnu/libm-2.31.so
    usr/lib/x86_64-linux-gnu/libz.so.1.2.13
    usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
    lib/aarch64-linux-gnu/libpthread-2.31.so
    lib64/ld-linux-x86-64.so.2
    usr/local/bin/python3
    usr/local/lib/libpython3.11.so.1.0
    usr/local/lib/python3.11/os.py
    opt/conda/bin/python3.11
    opt/conda/lib/python3.11/os.py
    opt/conda/lib/libz.so.1
    opt/conda/pyvenv.cfg
    etc/python3.11/sitecustomize.py
    opt/extra/left-1.0.dist-info/METADATA
"""
UNWANTED = """
    usr/lib/x86_64-linux-gnu/libcublas.so.11.11.3.6
    usr/lib/x86_64-linux-gnu/libcudart.so.11.0
    usr/lib/x86_64-linux-gnu/libcusolver.so.11
    usr/lib/x86_64-linux-gnu/libmagma.so
    usr/lib/python3.11/test/test_os.py
    usr/lib/python3.11/dist-packages/yaml/__init__.py
    usr/local/lib/python3.11/site-packages/torch/lib/libtorch.so
    usr/lib/python3/dist-packages/apt/__init__.py
    usr/lib/python3.13/os.py
    usr/bin/bash
    etc/passwd
    etc/alternatives/pager
    opt/other/bin/python3.11
    opt/extra/left/__init__.py
    var/lib/dpkg/status
    root/.ssh/id_ed25519
"""


def test_what_running_python_takes() -> None:
    base = make_base(env={"PYTHONPATH": "/opt/extra:relative:"})
    rules = python_files(replace(base, python=replace(base.python, prefix="/opt/conda")))
    assert [path for path in WANTED.split() if not rules.wants(path, link=False)] == []
    assert [path for path in UNWANTED.split() if rules.wants(path, link=False)] == []
    assert [path for path in ("bin", "usr/lib64", "etc/alternatives/python3") if not rules.wants(path, link=True)] == []
    assert [path for path in ("bin", "usr/lib64", "etc/alternatives/python3") if rules.wants(path, link=False)] == []


# --- the folder that is kept ------------------------------------------------------------------------------------------

PYTHON = layer(entry("usr/bin/python3", b"#!", mode=0o755), entry("usr/share/large", b"x"), link("bin", "usr/bin"))


def tree(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


def test_a_base_is_unpacked_once(tmp_path: Path) -> None:
    made = MadeBase([PYTHON])
    registry = MemoryRegistry(made)
    places = []
    for _ in range(2):
        bases = unpacked_bases(registry, tmp_path)
        with bases.opened(made.base(), platform=PLATFORM) as opened:
            places += [opened._unpacked(), opened._unpacked()]
        assert len(bases.progress.messages) == 1
        assert "3.11.2" in bases.progress.messages[0]
    assert len(set(places)) == 1
    assert tree(places[0]) == ["bin", "usr", "usr/bin", "usr/bin/python3"]
    assert [path.name for path in places[0].parent.iterdir()] == [places[0].name]
    assert len(registry.asked) == 1


def test_two_at_once(tmp_path: Path) -> None:
    made = MadeBase([PYTHON])

    def one(_: int) -> Path:
        with unpacked_bases(MemoryRegistry(made), tmp_path).opened(made.base(), platform=PLATFORM) as opened:
            return opened._unpacked()

    with ThreadPoolExecutor(6) as pool:
        places = set(pool.map(one, range(6)))
    (place,) = places
    assert tree(place) == ["bin", "usr", "usr/bin", "usr/bin/python3"]
    assert list(place.parent.iterdir()) == [place]


def test_what_was_never_finished_is_begun_again(tmp_path: Path) -> None:
    made = MadeBase([PYTHON])
    with unpacked_bases(MemoryRegistry(made), tmp_path / "else").opened(made.base(), platform=PLATFORM) as opened:
        name = opened._unpacked().name
    left = tmp_path / "cache" / "roots" / "making-abc" / "root" / "usr"
    left.mkdir(parents=True)
    (left / "half").write_text("of a process that was killed")
    with unpacked_bases(MemoryRegistry(made), tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        assert tree(opened._unpacked()) == ["bin", "usr", "usr/bin", "usr/bin/python3"]
    assert [path.name for path in (tmp_path / "cache" / "roots").iterdir()] == [name]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    made = MadeBase([PYTHON, layer(entry("../x", b""))])
    with (
        unpacked_bases(MemoryRegistry(made), tmp_path).opened(made.base(), platform=PLATFORM) as opened,
        pytest.raises(WorldError, match="leads out"),
    ):
        opened._unpacked()
    assert list((tmp_path / "cache" / "roots").iterdir()) == []
