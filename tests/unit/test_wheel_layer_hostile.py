"""Wheels that are damaged, or made to write where they must not."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from envlock.errors import EnvlockError, InputError
from envlock.layers.target import Target
from tests.support.layers import HERE, installed, lock_wheel, maker, raw_wheel, saved
from tests.support.packages import save, wheel

TARGET = Target(python=HERE)
MINOR = TARGET.minor


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        installed(path, TARGET)
    for word in (path.name, *words):
        assert word in caught.value.message
    assert caught.value.hint


def special(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = mode << 16
    return member


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "absolute"),
        ("../outside.py", "leads out"),
        ("demo/../../outside.py", "leads out"),
        ("demo-1.0.data/data/../../../etc/x", "leads out"),
        ("demo/./x.py", "not a plain one"),
        ("demo//x.py", "not a plain one"),
        ("demo\\x.py", "not a plain one"),
        ("demo\n.py", "not a plain one"),
        ("demo-1.0.data/unknown/x", "none of"),
        ("demo-1.0.data/scripts", "none of"),
        ("demo-1.0.data/scripts/python", "virtual environment itself"),
        (f"demo-1.0.data/scripts/python{MINOR}", "virtual environment itself"),
        ("demo-1.0.data/data/pyvenv.cfg", "virtual environment itself"),
        ("demo-1.0.data/data/lib64", "virtual environment itself"),
        ("demo-1.0.data/data/bin", "virtual environment itself"),
        (f"demo-1.0.data/data/lib/python{MINOR}", "virtual environment itself"),
        ("demo-1.0.data/data/bin/python3/x", "no folder"),
    ],
)
def test_paths(tmp_path: Path, name: str, why: str) -> None:
    refused(raw_wheel(tmp_path, [(name, b"x")]), repr(name), why)


def test_a_name_that_ends_at_a_nul(tmp_path: Path) -> None:
    path = raw_wheel(tmp_path, [("demoX.py", b"")])
    path.write_bytes(path.read_bytes().replace(b"demoX.py", b"demo\0.py"))
    refused(path, "demo\\x00.py")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    refused(raw_wheel(tmp_path, [(special("demo/x", kind | 0o777), b"/etc/passwd")]), "'demo/x'")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_hides_another(tmp_path: Path) -> None:
    refused(raw_wheel(tmp_path, [("demo.py", b"1"), ("demo.py", b"2")]), "'demo.py'", "twice")


@pytest.mark.parametrize(
    "names",
    [
        ("demo.py", "demo-1.0.data/purelib/demo.py"),
        ("demo-1.0.data/data/lib/x", "demo-1.0.data/data/lib64/x"),
        ("demo", "demo/x.py"),
    ],
)
def test_members_that_would_be_one_file(tmp_path: Path, names: tuple[str, str]) -> None:
    refused(raw_wheel(tmp_path, [(name, b"x") for name in names]), repr(names[0]), repr(names[1]))


def test_another_name_in_place_than_in_the_list(tmp_path: Path) -> None:
    path = raw_wheel(tmp_path, [("demo.py", b"x")])
    path.write_bytes(path.read_bytes().replace(b"demo.py", b"evil.py", 1))
    refused(path, "'demo.py'", "another name")


def test_ten_gigabytes_of_zeros(tmp_path: Path) -> None:
    path = raw_wheel(tmp_path, [])
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("zeros", "w", force_zip64=True) as file,
    ):
        for _ in range(300):
            file.write(bytes(1 << 20))
    refused(path, "unpacks to", "100 times")


def test_more_than_the_list_says(tmp_path: Path) -> None:
    path = raw_wheel(tmp_path, [("zeros", bytes(100_000))])
    content = path.read_bytes().replace(struct.pack("<I", 100_000), struct.pack("<I", 10))
    path.write_bytes(content)
    refused(path, "'zeros'")


def test_damaged_content(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = raw_wheel(tmp_path / str(method), [("demo.py", b"VALUE = 'some longer text'\n" * 20)], method=method)
        content = bytearray(path.read_bytes())
        content[45] ^= 0xFF
        path.write_bytes(content)
        refused(path, "'demo.py'")


def test_half_a_wheel(tmp_path: Path) -> None:
    path = raw_wheel(tmp_path, [("demo.py", b"x")])
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "zip")


def test_a_file_that_record_says_is_another(tmp_path: Path) -> None:
    digest = urlsafe_b64encode(hashlib.sha256(b"good").digest()).rstrip(b"=")
    path = raw_wheel(tmp_path, [("demo.py", b"evil")], info={"RECORD": b"demo.py,sha256=" + digest + b",4\n"})
    refused(path, "'demo.py'", "RECORD")


@pytest.mark.parametrize(
    ("info", "why"),
    [
        ({"WHEEL": b"Wheel-Version: 2.0\n"}, "format"),
        ({"WHEEL": b""}, "format"),
        ({"entry_points.txt": b"[console_scripts]\n../../x = demo:main\n"}, "entry point"),
        ({"entry_points.txt": b"[console_scripts]\nx = demo\n"}, "entry point"),
        ({"entry_points.txt": b"[console_scripts]\nx = demo:main; import os\n"}, "entry point"),
        ({"entry_points.txt": b"[console_scripts]\npython = demo:main\n"}, "virtual environment itself"),
        ({"METADATA": b"\xff"}, "UTF-8"),
    ],
)
def test_metadata(tmp_path: Path, info: dict[str, bytes], why: str) -> None:
    refused(raw_wheel(tmp_path, [], info=info), why)


def test_the_metadata_of_another_package(tmp_path: Path) -> None:
    path = raw_wheel(tmp_path, [], name="other")
    refused(path.rename(tmp_path / "demo-1.0-py3-none-any.whl"), "other-1.0.dist-info")
    refused(raw_wheel(tmp_path, [("second-1.0.dist-info/WHEEL", b"")]), "2 .dist-info")
    hidden = "demo-1.0.data/purelib/ghost-9.0.dist-info/METADATA"
    refused(raw_wheel(tmp_path, [(hidden, b"")]), hidden, "another package")
    for name in ("Ghost-9.DIST-INFO/METADATA", "ghost-9.0.egg-info/PKG-INFO", "ghost.egg-info"):
        refused(raw_wheel(tmp_path, [(name, b"")]), name, "another package")


def test_not_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_bytes(b"no")
    refused(path, "zip")


def test_an_encrypted_member(tmp_path: Path) -> None:
    buffer = io.BytesIO(raw_wheel(tmp_path, [("demo.py", b"x")]).read_bytes())
    content = bytearray(buffer.getvalue())
    content[content.index(b"PK\1\2") + 8] |= 1
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_bytes(content)
    refused(path, "encrypted")


def test_nothing_of_a_refused_wheel_stays(tmp_path: Path) -> None:
    good = wheel("good", files={"good.py": "A = 1\n"})
    path = save(wheel("bad", files={"bad.py": "B = 1\n" * 50}), tmp_path)
    wheels, paths = saved([good], tmp_path)
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF
    path.write_bytes(content)
    bad = lock_wheel(path)
    make, store = maker(tmp_path / "store", TARGET)
    with pytest.raises(EnvlockError, match="bad"):
        make.make([*wheels, bad], fetch=lambda _: paths | {bad.sha256: path})
    assert not list((tmp_path / "store").glob("making/*"))
    assert not list(store.layers.kept())
