"""What a .deb may hold, and that everything else is refused before it is used."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envlock.errors import AptError
from envlock.layers.deb_check import check_deb, check_debs
from envlock.model.lock import Deb
from tests.support.tars import CONTROL, PACKERS, Made, ar, deb, entry, folder, hard_link, link, tar

Check = Callable[[bytes], int]

PKG = Deb(
    name="pkg",
    version="1.0-1",
    architecture="amd64",
    source="test",
    path="pool/p/pkg_1.0-1_amd64.deb",
    sha256="a",
    size=1,
)
GOOD: tuple[Made, ...] = (
    folder("./"),
    folder("./usr/"),
    folder("./usr/bin/"),
    entry("./usr/bin/tool", b"#!/bin/sh\n", mode=0o4755),
    hard_link("./usr/bin/twin", "./usr/bin/tool"),
    link("./usr/bin/other", "tool"),
    folder("./usr/lib/"),
    link("./usr/lib/libx.so", "../../lib/libx.so.1"),
    link("./usr/lib/absolute", "/etc/alternatives/x"),
    entry("./usr/lib/" + "long-" * 40, b"x"),
)


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def checked(content: bytes) -> int:
        path = tmp_path / "a.deb"
        path.write_bytes(content)
        return check_deb(PKG, path)

    return checked


@pytest.mark.parametrize("kind", PACKERS)
def test_an_honest_package_passes_however_it_is_packed(check: Check, kind: str) -> None:
    assert check(deb(*GOOD, kind=kind, date=1_700_000_000)) == 1_700_000_000


def test_many_are_checked_and_the_newest_counts(tmp_path: Path) -> None:
    for name, date in (("a", 5), ("b", 9)):
        (tmp_path / name).write_bytes(deb(*GOOD, date=date))
    files = {"a": tmp_path / "a", "b": tmp_path / "b"}
    from dataclasses import replace

    assert check_debs([PKG, replace(PKG, sha256="b")], files) == 9
    assert check_debs([], {}) == 0


BAD = {
    "absolute path": (entry("/etc/passwd", b"x"),),
    "leads out": (entry("./usr/../../etc/passwd", b"x"),),
    "another path than it looks": (entry("./usr//bin/x", b"x"),),
    "another path than": (entry("./usr/./x", b"x"),),
    "than it looks": (entry("./usr/a\nb", b"x"),),
    "link out of the file system": (link("./usr/x", "../../../etc/passwd"),),
    "is a link to ''": (link("./usr/x", ""),),
    "a device, a pipe": (entry("./usr/x", type=tarfile.CHRTYPE, devmajor=1, devminor=3),),
    "device, a pipe": (entry("./usr/x", type=tarfile.BLKTYPE),),
    "a pipe, or": (entry("./usr/x", type=tarfile.FIFOTYPE),),
    "the second hides the first": (entry("./usr/x", b"1"), entry("usr/x", b"2")),
    "there twice": (folder("./usr/x"), link("./usr/x", "/etc")),
    "is there twice": (link("./usr/x", "/etc"), folder("./usr/x/")),
    "written through 'usr/x'": (link("./usr/x", "/etc"), entry("./usr/x/passwd", b"x")),
    "would be written through": (entry("./usr/x", b"1"), entry("./usr/x/y", b"2")),
    "no file of its own": (hard_link("./usr/x", "./etc/shadow"),),
    "which is no file": (link("./usr/l", "/etc/shadow"), hard_link("./usr/x", "./usr/l")),
    "write to /dev/x": (entry("./dev/x", b"x"),),
    "write to /opt/venv": (link("./opt/venv", "/tmp"),),
    "write to /opt/venv/bin/python": (entry("./opt/venv/bin/python", b"x"),),
    "write to /opt/envlock/envlock.lock": (entry("./opt/envlock/envlock.lock", b"x"),),
    "hide files": (entry("./usr/bin/.wh.sh", b""),),
    "too long a path": (entry("./usr/" + "x" * 256, b""),),
    "is too long": (entry("./" + "/".join(["x" * 200] * 21), b""),),
}


@pytest.mark.parametrize("why", BAD)
def test_a_package_that_does_harm_is_refused_by_name(check: Check, why: str) -> None:
    with pytest.raises(AptError) as caught:
        check(deb(*GOOD, *BAD[why]))
    assert why in caught.value.message
    assert "pkg_1.0-1_amd64.deb (pkg 1.0-1, from the repository test)" in caught.value.message


def test_a_header_of_many_megabytes_is_refused_unread(check: Check) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry_ = tarfile.TarInfo("./usr")
        entry_.type, entry_.pax_headers = tarfile.DIRTYPE, {"comment": "x" * (3 << 20)}
        archive.addfile(entry_)
    content = ar(
        [
            ("debian-binary", b"2.0\n"),
            ("control.tar.gz", gzip.compress(tar(entry("./control", CONTROL)))),
            ("data.tar.gz", gzip.compress(raw.getvalue())),
        ]
    )
    with pytest.raises(AptError, match="pkg"):
        check(content)


def test_a_date_fits_into_a_tar(check: Check) -> None:
    assert check(deb(*GOOD, date=10**12 - 1)) < 8**11


@pytest.mark.parametrize("kind", [".gz", ".xz", ".zst"])
def test_ten_gigabytes_of_zeros_are_refused_early(check: Check, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envlock.layers.deb_archive._ALWAYS_ALLOWED", 1 << 20)
    bomb = tar(entry("./usr/zeros", bytes(64 << 20)))
    packed = PACKERS[kind](bomb)
    with pytest.raises(AptError, match="unpacks to more than"):
        check(ar([("debian-binary", b"2.0\n"), *_control(kind), (f"data.tar{kind}", packed)]))


def test_a_bomb_in_the_control_archive(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envlock.layers.deb_check._LARGEST_CONTROL", 1 << 20)
    bomb = lzma.compress(tar(entry("./control", CONTROL), entry("./md5sums", bytes(4 << 20))))
    with pytest.raises(AptError, match="unpacks to more than"):
        check(ar([("debian-binary", b"2.0\n"), ("control.tar.xz", bomb), ("data.tar.xz", lzma.compress(tar()))]))


def _control(kind: str = ".xz", *entries: Made) -> list[tuple[str, bytes]]:
    return [(f"control.tar{kind}", PACKERS[kind](tar(*(entries or (entry("./control", CONTROL),)))))]


DATA = ("data.tar.xz", lzma.compress(tar(*GOOD)))
FIRST = ("debian-binary", b"2.0\n")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no ar archive"),
        (b"!<arch>\n", "has no debian-binary"),
        (ar([FIRST, *_control()]), "has no data.tar"),
        (ar([FIRST, *_control(), DATA, DATA]), "comes after its files"),
        (ar([FIRST, DATA, *_control()]), "is not what comes second"),
        (ar([FIRST, ("_evil", b"x"), *_control(), DATA]), "'_evil' is not what comes second"),
        (ar([FIRST, *_control(), DATA])[:-40], "cut off"),
        (ar([FIRST, *_control(), ("data.tar.rar", b"x")]), "no way of packing"),
        (ar([FIRST, *_control(), ("data.tar.xz", b"no xz at all")]), "damaged"),
        (ar([FIRST, *_control(), ("data.tar.gz", b"no gz at all")]), "damaged"),
        (ar([FIRST, *_control(), ("data.tar.zst", b"no zst at all")]), "damaged"),
        (ar([FIRST, *_control(), ("data.tar", b"no tar" * 200)]), "damaged"),
        (ar([FIRST, *_control(), ("data.tar.xz", DATA[1][: len(DATA[1]) // 2])]), "damaged"),
        (ar([FIRST, *_control(), ("data.tar", tar(*GOOD) + tar(entry("/evil", b"x")))]), "after the end of its tar"),
        (ar([FIRST, *_control(".xz", entry("./postinst", b"x")), DATA]), "no control file"),
        (ar([FIRST, *_control(".xz", entry("./control", CONTROL), entry("./control", CONTROL)), DATA]), "twice"),
        (ar([FIRST, *_control(".xz", link("./control", "/etc/passwd")), DATA]), "no plain file"),
        (ar([FIRST, *_control(".xz", entry("./sub/control", CONTROL)), DATA]), "no plain file"),
        (deb(*GOOD, control=CONTROL.replace(b": pkg", b": sudo")), "says that it is 'sudo'"),
        (deb(*GOOD, control=CONTROL.replace(b"1.0-1", b"9")), "says that it is 'pkg' '9'"),
        (deb(*GOOD, control=b"Package pkg\n"), "cannot be read"),
    ],
)
def test_what_is_no_such_package_is_refused(check: Check, content: bytes, why: str) -> None:
    with pytest.raises(AptError, match=why.replace("(", r"\(")):
        check(content)


def test_a_header_with_a_wrong_checksum_hides_nothing(check: Check) -> None:
    broken = bytearray(tar(*GOOD, entry("./last", b"x")))
    place = broken.index(b"./last")
    broken[place] = ord("/")
    with pytest.raises(AptError, match="after the end of its tar"):
        check(ar([FIRST, *_control(), ("data.tar", bytes(broken))]))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless_and_never_a_crash(check: Check, data: st.DataObject) -> None:
    whole = bytearray(deb(*GOOD, kind=data.draw(st.sampled_from(sorted(PACKERS)))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        check(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except AptError:
        return
