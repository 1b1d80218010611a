"""The system layer: found by looking, and the same bytes whatever the installation was like."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.adapters.engine import install_agent
from envlock.compose.system import FORMAT, INSTALL, SystemPackages, system_layer
from envlock.errors import AptError, BuildFailed
from envlock.formats.layer_tar import END, Member, header, padding
from envlock.formats.templates import render
from envlock.layers.java_keystore import dated
from envlock.layers.store import LayerStore
from envlock.layers.system_layer import Rules, normalise
from envlock.model.layers import StoredLayer
from tests.support.locks import make_base, make_deb
from tests.support.progress import Remembering
from tests.support.tars import Made, deb, entry, folder, hard_link, link, tar

RULES = Rules(epoch=1_700_000_000, seed="5eed" * 8)
CAPABILITY = "SCHILY.xattr.security.capability"
CAN_PING = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\xff\xfe\x00\x00\x00\x00\x00\x00"


def normalised(content: bytes, rules: Rules = RULES) -> bytes:
    written: list[bytes] = []
    normalise(io.BytesIO(content), written.append, rules)
    return b"".join(written)


def read(content: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), encoding="utf-8") as archive:
        found = {}
        for made in archive:
            file = archive.extractfile(made) if made.isreg() else None
            found[made.name] = (made, file.read() if file else b"")
        return found


# --- normalising ------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120).filter(
    lambda name: name not in (".", "..") and not name.startswith(".wh.")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@st.composite
def layers(draw: st.DrawFn) -> list[tuple[str, dict[str, Any], bytes]]:
    made = []
    for path in sorted(draw(st.sets(PATHS, max_size=8)), key=str.encode):
        kind = draw(st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE]))
        content = draw(st.binary(max_size=1200)) if kind == tarfile.REGTYPE else b""
        fields = {
            "type": kind,
            "mode": draw(st.integers(0, 0o7777)),
            "uid": draw(st.integers(0, 2**21 - 1)),
            "gid": draw(st.integers(0, 2**21 - 1)),
            "linkname": draw(PATHS) if kind == tarfile.SYMTYPE else "",
        }
        made.append((path, fields, content))
    return made


@settings(max_examples=50, deadline=None)
@given(layer=layers(), data=st.data())
def test_only_what_counts_decides_the_bytes(
    layer: list[tuple[str, dict[str, Any], bytes]], data: st.DataObject
) -> None:
    def one() -> bytes:
        user = data.draw(st.sampled_from(["", "root", "builder"]))
        later = data.draw(st.integers(RULES.epoch, RULES.epoch + 10**8))
        bits = data.draw(st.sampled_from([0, 0o100000]))  # old engines write the file's type into the mode
        prefix = data.draw(st.sampled_from(["", "./"]))
        entries = [
            entry(
                prefix + path,
                content,
                uname=user,
                gname=user,
                mtime=later,
                **{**fields, "mode": fields["mode"] | bits},
            )
            for path, fields, content in layer
        ]
        return tar(*entries, form=data.draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])))

    first = normalised(one())
    assert normalised(one()) == first
    assert normalised(first) == first
    kept = {path for path, fields, _ in layer if path in read(first)}
    for path, fields, content in layer:
        if path in kept:
            made, inside = read(first)[path]
            assert (made.type, made.mode, made.uid, made.gid) == (
                fields["type"],
                fields["mode"],
                fields["uid"],
                fields["gid"],
            )
            assert inside == content
            assert made.linkname == fields["linkname"]
            assert (made.uname, made.gname) == ("", "")


def test_times_are_the_packages_own_or_the_epoch() -> None:
    found = read(
        normalised(
            tar(
                folder("a", mtime=5),
                entry("a/delivered", b"x", mtime=1_600_000_000),
                entry("a/written", b"x", mtime=1_800_000_000),
            )
        )
    )
    assert {path: made.mtime for path, (made, _) in found.items()} == {
        "a": RULES.epoch,
        "a/delivered": 1_600_000_000,
        "a/written": RULES.epoch,
    }


@pytest.mark.parametrize(
    "path",
    [
        "tmp/x",
        "var/tmp/x",
        "var/log/dpkg.log",
        "var/log/apt/term.log",
        "var/cache/apt/pkgcache.bin",
        "var/cache/apt/archives/lock",
        "var/lib/apt/lists/lock",
        "var/cache/ldconfig/aux-cache",
        "var/cache/debconf/config.dat-old",
        "var/lib/dpkg/status-old",
        "var/cache/fontconfig/0a.cache-7",
        "var/cache/man/index.db",
        "etc/passwd-",
        "etc/shadow-",
        "run/program.pid",
    ],
)
def test_what_only_says_when_it_ran_is_left_out(path: str) -> None:
    assert path not in read(normalised(tar(entry(path, b"x"))))


@pytest.mark.parametrize(
    "path",
    ["etc/passwd", "var/lib/dpkg/status", "var/cache/debconf/config.dat", "etc/ld.so.cache", "opt/tmp/x", "tmpfile"],
)
def test_what_counts_stays(path: str) -> None:
    assert read(normalised(tar(entry(path, b"x"))))[path][1] == b"x"


def test_placeholders_of_logs_stay() -> None:
    found = read(normalised(tar(folder("var/log/app", uid=7), entry("var/log/app/empty", mode=0o640))))
    assert found["var/log/app"][0].uid == 7
    assert found["var/log/app/empty"][0].mode == 0o640


def test_the_machine_has_the_id_of_the_layer() -> None:
    found = read(
        normalised(tar(entry("etc/machine-id", b"%032x\n" % 1), entry("var/lib/dbus/machine-id", b"%032x\n" % 2)))
    )
    assert found["etc/machine-id"][1] == found["var/lib/dbus/machine-id"][1] == RULES.seed.encode() + b"\n"


def test_compiled_python_names_the_time_that_its_source_gets() -> None:
    def pyc(flags: int, time: int) -> bytes:
        return b"\xa7\r\r\n" + struct.pack("<II", flags, time) + b"rest of it"

    cache = "usr/lib/python3/dist-packages/__pycache__/"
    found = read(
        normalised(
            tar(
                entry(cache + "a.cpython-311.pyc", pyc(0, 1_600_000_000)),
                entry(cache + "b.cpython-311.pyc", pyc(0, 1_800_000_000)),
                entry(cache + "c.cpython-311.pyc", pyc(1, 1_800_000_000)),
                entry(cache + "short.pyc", b"x"),
            )
        )
    )
    assert [content for _, content in found.values()] == [
        pyc(0, 1_600_000_000),
        pyc(0, RULES.epoch),
        pyc(1, 1_800_000_000),  # checked by hash: those four bytes are part of it
        b"x",
    ]


def test_capabilities_stay_and_other_attributes_go() -> None:
    attributes = {
        CAPABILITY: CAN_PING.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.user.note": "x",
        "atime": "5.5",
    }
    content = normalised(tar(entry("usr/bin/ping", b"x", pax_headers=attributes)))
    made = read(content)["usr/bin/ping"][0]
    assert made.pax_headers[CAPABILITY].encode("utf-8", "surrogateescape") == CAN_PING
    assert set(made.pax_headers) == {CAPABILITY}
    assert normalised(content) == content


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    content = normalised(tar(entry(name, b"x"), link("l", name)))
    assert list(read(content)) == [name, "l"]
    (tmp_path / "a.tar").write_bytes(content)
    subprocess.run(["tar", "-xf", "a.tar"], cwd=tmp_path, check=True)
    assert (tmp_path / name).read_bytes() == b"x"


def test_whiteouts_stay() -> None:
    assert list(read(normalised(tar(entry("etc/.wh.gone", uid=5, mtime=9), entry("usr/.wh..wh..opq"))))) == [
        "etc/.wh.gone",
        "usr/.wh..wh..opq",
    ]


def test_hard_links_stay_hard_links() -> None:
    found = read(normalised(tar(entry("a", b"x"), hard_link("b", "a"))))
    assert (found["b"][0].type, found["b"][0].linkname) == (tarfile.LNKTYPE, "a")


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("../x", b"x")], "leads outside"),
        ([entry("a/../../x", b"x")], "leads outside"),
        ([entry("/etc/x", b"x")], "leads outside"),
        ([entry("b", b"x"), entry("a", b"x")], "not in order"),
        ([entry("a", b"x"), entry("a", b"y")], "not in order"),
        ([entry("dev/x", type=tarfile.CHRTYPE)], "a device"),
        ([entry("x", type=tarfile.BLKTYPE)], "a device"),
        ([hard_link("x", "etc/shadow")], "has no such file"),
        ([entry("tmp/x", b""), hard_link("usr/x", "tmp/x")], "has no such file"),
    ],
)
def test_what_no_layer_may_hold_is_refused(entries: list[Made], why: str) -> None:
    with pytest.raises(BuildFailed, match=why):
        normalised(tar(*entries))


def test_a_stream_that_breaks_off() -> None:
    whole = tar(entry("a", bytes(100_000)))
    with pytest.raises(BuildFailed):
        normalised(whole[:50_000])
    with pytest.raises(BuildFailed, match="damaged"):
        normalised(b"no tar at all" * 100)


# --- the writer -------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    path=PATHS,
    target=PATHS,
    uid=st.integers(0, 2**32 - 2),
    size=st.sampled_from([0, 1, 511, 512, 8**11 - 1, 8**11, 10**12]),
)
def test_headers_are_read_as_they_are_meant(path: str, target: str, uid: int, size: int) -> None:
    made = Member(
        path=path, type=b"0", mode=0o4755, uid=uid, gid=uid, mtime=1_700_000_000, size=size, capability=CAN_PING
    )
    found = _first(header(made))
    assert (found.name, found.size, found.uid, found.gid, found.mode) == (path, size, uid, uid, 0o4755)
    symlink = _first(header(replace(made, type=b"2", size=0, target=target)))
    assert (symlink.name, symlink.linkname) == (path, target)


def _first(content: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(content + END), mode="r|", encoding="utf-8") as archive:
        made = archive.next()
        assert made is not None
        return made


def test_the_tar_is_known_by_its_bytes() -> None:
    """Whatever changes these bytes changes every digest: then the format's number has to change, too."""
    entries = (
        Member(path="etc", type=b"5", mode=0o755, uid=0, gid=0, mtime=1),
        Member(path="etc/ä" + "x" * 120, type=b"0", mode=0o600, uid=5, gid=2**31, mtime=2, size=3, capability=CAN_PING),
        Member(path="etc/link", type=b"2", mode=0o777, uid=0, gid=0, mtime=3, target="y" * 150),
    )
    content = b"".join(header(made) + b"abc"[: made.size] + padding(made.size) for made in entries) + END
    assert hashlib.sha256(content).hexdigest() == GOLDEN
    assert FORMAT == 1


GOLDEN = "ea6df088c3b7e3eb6d4eb0d31e41a549762683a91ef918168f019b22010fa316"

# --- Java -------------------------------------------------------------------------------------------------------------


def key_store(*dates: int, password: str = "changeit") -> bytes:
    body = struct.pack(">III", 0xFEEDFEED, 2, len(dates))
    for number, date in enumerate(dates):
        name = f"ca{number}".encode()
        body += (
            struct.pack(">IH", 2, len(name))
            + name
            + struct.pack(">QH", date, 5)
            + b"X.509"
            + struct.pack(">I", 4)
            + b"cert"
        )
    return body + hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def test_a_key_store_is_dated_anew() -> None:
    assert dated(key_store(5, 6), 7) == key_store(7000, 7000) == dated(key_store(8, 9), 7)
    content = normalised(tar(entry("etc/ssl/certs/java/cacerts", key_store(1, 2))))
    assert read(content)["etc/ssl/certs/java/cacerts"][1] == key_store(RULES.epoch * 1000, RULES.epoch * 1000)


@pytest.mark.parametrize(
    "store", [b"", b"x" * 100, key_store(5, password="other"), key_store(5)[:-1], key_store(5) + b"x"]
)
def test_what_is_no_such_key_store_stays(store: bytes) -> None:
    assert dated(store, 7) == store


def test_a_key_store_with_a_private_key_stays() -> None:
    body = struct.pack(">III", 0xFEEDFEED, 2, 1) + struct.pack(">IH", 1, 1) + b"k" + struct.pack(">QI", 5, 1) + b"p"
    store = body + hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()
    assert dated(store, 7) == store


# --- looking before and after -----------------------------------------------------------------------------------------

Change = Callable[[Path], object]


def layer_of(root: Path, change: Change) -> bytes:
    """Return what the agent hands out for what was done to a folder."""
    top = os.fsencode(root)
    before = install_agent.look(top, set())
    hashed = install_agent.hashes(top, before)
    change(root)
    output = io.BytesIO()
    install_agent.pack(top, before, install_agent.look(top, set()), hashed, output)
    return output.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in ("etc/kept", "etc/changed", "usr/lib/x/deep/file", "usr/bin/tool", "var/lib/state"):
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_text(path)
    return tmp_path / "root"


def _remove(path: Path) -> None:
    subprocess.run(["rm", "-r", str(path)], check=True)


@pytest.mark.parametrize(
    ("change", "entries"),
    [
        (lambda root: None, []),
        (lambda root: (root / "etc/kept").read_text(), []),
        (lambda root: (root / "etc/changed").write_text("other"), ["etc", "etc/changed"]),
        (lambda root: (root / "usr/bin/tool").chmod(0o4755), ["usr", "usr/bin", "usr/bin/tool"]),
        (lambda root: (root / "usr/bin").chmod(0o700), ["usr", "usr/bin"]),
        (lambda root: (root / "usr/new/sub").mkdir(parents=True), ["usr", "usr/new", "usr/new/sub"]),
        (lambda root: (root / "usr/bin/tool").unlink(), ["usr", "usr/bin", "usr/bin/.wh.tool"]),
        (lambda root: _remove(root / "usr/lib/x"), ["usr", "usr/lib", "usr/lib/.wh.x"]),
        (
            lambda root: (_remove(root / "usr/lib/x"), (root / "usr/lib/x").write_text("")),
            ["usr", "usr/lib", "usr/lib/x"],
        ),
        (
            lambda root: (_remove(root / "usr/lib/x"), (root / "usr/lib/x").mkdir()),
            ["usr", "usr/lib", "usr/lib/x", "usr/lib/x/.wh.deep"],
        ),
        (lambda root: (root / "etc/l").symlink_to("kept"), ["etc", "etc/l"]),
        (lambda root: (root / "etc/kept").write_text("etc/kept"), []),  # the same again, as useradd and others do
        (lambda root: (root / "tmp").mkdir(), ["tmp"]),
        (lambda root: (root / "tmp/x").mkdir(parents=True), ["tmp"]),
    ],
)
def test_what_changed_is_found(root: Path, change: Change, entries: list[str]) -> None:
    assert list(read(layer_of(root, change))) == entries


def test_a_device_is_refused_and_a_socket(root: Path) -> None:
    import socket

    def listen(root: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(root / "etc/s"))

    with pytest.raises(SystemExit, match="etc/s"):
        layer_of(root, listen)


def test_a_file_that_looks_like_a_whiteout_is_refused(root: Path) -> None:
    with pytest.raises(SystemExit, match=r"\.wh\.x"):
        layer_of(root, lambda root: (root / "etc/.wh.x").write_text(""))


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(["b", "a", "d/x", "c", "d/y"]), joined=st.sampled_from(["b", "c", "d/x"]))
def test_the_order_in_which_files_came_does_not_show(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], joined: str
) -> None:
    def change(root: Path) -> None:
        for name in order:
            path = root / name
            path.parent.mkdir(exist_ok=True)
            if name == "d/y":
                continue
            path.write_text("the same" if name in (joined, "a") else name)
        first, second = (joined, "a") if order.index(joined) < order.index("a") else ("a", joined)
        (root / second).unlink()
        (root / second).hardlink_to(root / first)

    root = tmp_path_factory.mktemp("root")
    found = read(normalised(layer_of(root, change), Rules(epoch=1, seed="0" * 32)))
    assert list(found) == ["a", *sorted(["b", "c", "d", "d/x"])]
    assert found[joined][0].linkname == "a"
    assert found["a"][1] == b"the same"


# --- from packages to a layer -----------------------------------------------------------------------------------------


class FakeInstaller:
    def __init__(self, layer: bytes) -> None:
        self.layer = layer
        self.asked: list[dict[str, Any]] = []

    @contextmanager
    def installed(self, image: str, files: Mapping[str, Path], **asked: Any) -> Iterator[IO[bytes]]:
        self.asked.append({"image": image, "files": files, **asked})
        yield io.BytesIO(self.layer)


@pytest.fixture
def packages(tmp_path: Path) -> tuple[SystemPackages, dict[str, Path]]:
    content = deb(control=b"Package: git\nVersion: 1:2-1\nArchitecture: amd64\n", date=1_690_000_000)
    (tmp_path / "git.deb").write_bytes(content)
    git = make_deb("git", "1:2-1", sha256=hashlib.sha256(content).hexdigest(), requested=True)
    return SystemPackages(base=make_base(), debs=(git,)), {git.sha256: tmp_path / "git.deb"}


def test_a_layer_is_made_once(packages: tuple[SystemPackages, dict[str, Path]], tmp_path: Path) -> None:
    what, files = packages
    store, installer = LayerStore(tmp_path / "store"), FakeInstaller(tar(entry("etc/x", b"x", mtime=1_800_000_000)))

    def make(**_: Any) -> StoredLayer:
        return system_layer(
            what, store, image=lambda: "base", installer=installer, files=lambda: files, progress=Remembering()
        )

    layer = make()
    assert make() == layer
    assert len(installer.asked) == 1
    assert layer.title == "system packages: git"
    asked = installer.asked[0]
    assert asked["argv"][: len(INSTALL)] == INSTALL
    assert asked["argv"][len(INSTALL) :] == tuple(asked["files"])
    assert asked["env"]["SOURCE_DATE_EPOCH"] == "1690000000"
    with store.open(layer) as file:
        content = file.read()
    assert read(content)["etc/x"][0].mtime == 1_690_000_000
    assert layer.diff_id == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_refused_package_is_not_installed(packages: tuple[SystemPackages, dict[str, Path]], tmp_path: Path) -> None:
    what, files = packages
    next(iter(files.values())).write_bytes(deb(entry("/etc/passwd", b"x")))
    store, installer = LayerStore(tmp_path / "store"), FakeInstaller(b"")
    with pytest.raises(AptError, match="is refused"):
        system_layer(
            what, store, image=lambda: "base", installer=installer, files=lambda: files, progress=Remembering()
        )
    assert (store.find(what.key), installer.asked) == (None, [])


def test_the_key_says_what_the_layer_is_made_of(packages: tuple[SystemPackages, dict[str, Path]]) -> None:
    what, _ = packages
    other = make_deb("curl")
    same = replace(what, debs=(replace(what.debs[0], requested=False, source="mirror"),))
    assert same.key == what.key
    assert replace(what, debs=(*what.debs, other)).key == replace(what, debs=(other, *what.debs)).key
    keys = {
        what.key,
        replace(what, debs=(*what.debs, other)).key,
        replace(what, debs=(other,)).key,
        replace(what, base=make_base(image_id="sha256:" + "0" * 64)).key,
    }
    assert len(keys) == 4
    assert replace(what, debs=(*what.debs, other)).title == "system packages: git and 1 more"


def test_the_dockerfile_installs_with_the_same_words() -> None:
    text = render("dockerfile/system.j2", asked=[], metadata="/opt/envlock")
    words = text.replace("\\\n", " ").split()
    start = words.index("apt-get", words.index("DEBIAN_FRONTEND=noninteractive"))
    assert tuple(words[start : start + len(INSTALL)]) == INSTALL
