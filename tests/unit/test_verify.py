"""Images held against what they have to be, file by file."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.errors import InputError, LockError, WorldError
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.layers.owners import Owners
from envlock.layers.tree import Tree, read_tree
from envlock.model.environment import Finding
from envlock.model.layers import ComposedImage, StoredLayer
from envlock.model.lock import Lock
from envlock.model.plan import Project, ProjectFile
from envlock.model.spec import ImageOptions
from envlock.plan import project_digest
from envlock.ports import EngineImage
from envlock.verify import (
    Again,
    Expectation,
    Report,
    as_json,
    as_text,
    compare_digests,
    compare_trees,
    expected_tree,
    verify,
)
from tests.support.images import make_engine_image
from tests.support.locks import make_lock
from tests.support.progress import Remembering
from tests.support.tars import Made, entry, folder, hard_link, link, tar


def tree(*entries: Made, layer: bool = False) -> Tree:
    return read_tree(io.BytesIO(tar(*entries)), layer=layer)


def said(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(it.where, it.message) for it in findings]


# --- layers over each other -------------------------------------------------------------------------------------------

BASE = (
    folder("etc"),
    entry("etc/a", b"1"),
    folder("usr"),
    folder("usr/lib"),
    entry("usr/lib/x", b"2"),
    link("lib", "usr/lib"),
)


@pytest.mark.parametrize(
    ("layer", "left"),
    [
        ((), {"etc", "etc/a", "usr", "usr/lib", "usr/lib/x", "lib"}),
        ((entry("etc/.wh.a"),), {"etc", "usr", "usr/lib", "usr/lib/x", "lib"}),
        ((entry(".wh.usr"),), {"etc", "etc/a", "lib"}),
        ((folder("usr"), entry("usr/.wh..wh..opq"), entry("usr/new")), {"etc", "etc/a", "usr", "usr/new", "lib"}),
        ((entry("usr", b"file"),), {"etc", "etc/a", "usr", "lib"}),
        ((folder("lib"), entry("lib/y")), {"etc", "etc/a", "usr", "usr/lib", "usr/lib/x", "lib", "lib/y"}),
        ((entry(".wh.etc"), folder("etc"), entry("etc/b")), {"etc", "etc/b", "usr", "usr/lib", "usr/lib/x", "lib"}),
    ],
)
def test_layers_cover_what_is_below(layer: tuple[Made, ...], left: set[str]) -> None:
    below = tree(*BASE)
    below.cover(tree(*layer, layer=True))
    assert set(below.nodes) == left


def test_a_hard_link_is_the_file_itself() -> None:
    assert (
        tree(entry("a", b"x", mode=0o600), hard_link("b", "a")).nodes["b"]
        == tree(entry("b", b"x", mode=0o600)).nodes["b"]
    )


def test_a_damaged_tar() -> None:
    with pytest.raises(WorldError, match="damaged"):
        read_tree(io.BytesIO(tar(entry("a", bytes(5000)))[:2000]), layer=False)


# --- findings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((), "is missing"),
        ((entry("f", b"1235"),), "has other content"),
        ((entry("f", b"12345"),), "has other content (5 bytes for 4)"),
        ((entry("f", b"1234", mode=0o755),), "has mode 0755 for 0644"),
        ((entry("f", b"1234", uid=5),), "belongs to 5:0, and not to 0:0"),
        ((entry("f", b"1234", mode=0o4755, gid=7),), "has mode 4755 for 0644, belongs to 0:7, and not to 0:0"),
        ((link("f", "x"),), "is a symbolic link, and has to be a file"),
        ((folder("f"),), "is a folder, and has to be a file"),
        ((entry("f", type=tarfile.CHRTYPE),), "is a device or pipe, and has to be a file"),
    ],
)
def test_each_way_to_differ_has_its_words(found: tuple[Made, ...], message: str) -> None:
    assert said(compare_trees(tree(entry("f", b"1234")), tree(*found))) == [("/f", message)]


def test_times_names_and_the_order_of_hard_links_are_no_difference() -> None:
    one = tree(entry("a", b"x", mtime=5, uname="me"), hard_link("b", "a"))
    other = tree(entry("b", b"x", mtime=9), hard_link("a", "b"))
    assert compare_trees(one, other) == ()


def test_a_capability_is_a_difference() -> None:
    can = {"SCHILY.xattr.security.capability": "\x01\x02"}
    found = compare_trees(tree(entry("ping", b"x", pax_headers=can)), tree(entry("ping", b"x")))
    assert said(found) == [("/ping", "has other content")]


def test_folders_are_named_where_nothing_in_them_is() -> None:
    added = tree(*BASE, folder("opt"), folder("opt/full"), entry("opt/full/x"), folder("opt/empty"))
    assert said(compare_trees(tree(*BASE), added)) == [("/opt/empty", "was added"), ("/opt/full/x", "was added")]
    gone = said(compare_trees(added, tree(*BASE)))
    assert gone == [("/opt/empty", "is missing"), ("/opt/full/x", "is missing")]
    changed = tree(folder("etc", mode=0o777), *BASE[1:])
    assert said(compare_trees(tree(*BASE), changed)) == [("/etc", "has mode 0777 for 0755")]


SITE = "opt/venv/lib/python3.11/site-packages"
STATUS = b"Package: git\nStatus: install ok installed\nVersion: 1:2.39\nArchitecture: amd64\n"
TELLING = {
    "var/lib/dpkg/status": STATUS,
    "var/lib/dpkg/info/git.list": b"/.\n/usr\n/usr/bin\n/usr/bin/git\n/lib/libgit.so\n",
    "var/lib/dpkg/info/libc6:amd64.list": b"/lib/libc.so\n",
    f"{SITE}/numpy-2.1.0.dist-info/RECORD": b'numpy/__init__.py,sha256=x,1\n"a,b.py",,\n../../../bin/f2py,,\n\n',
    f"{SITE}/Foo_Bar-1.0+cu118.dist-info/RECORD": b"numpy/__init__.py,,\nfoo.py,,\n/etc/foo,,\n",
}


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("usr/bin/git", "git 1:2.39"),
        ("usr/lib/libgit.so", "git 1:2.39"),
        ("lib/libgit.so", "git 1:2.39"),
        ("usr/lib/libc.so", "libc6"),
        (f"{SITE}/numpy/__init__.py", "numpy 2.1.0"),
        (f"{SITE}/numpy/__pycache__/__init__.cpython-311.pyc", "numpy 2.1.0"),
        (f"{SITE}/__pycache__/foo.cpython-311.opt-1.pyc", "foo-bar 1.0+cu118"),
        (f"{SITE}/a,b.py", "numpy 2.1.0"),
        ("opt/venv/bin/f2py", "numpy 2.1.0"),
        ("etc/foo", "foo-bar 1.0+cu118"),
        ("etc/other", ""),
    ],
)
def test_files_have_owners(path: str, owner: str) -> None:
    assert Owners(TELLING).of(path) == owner


@given(telling=st.dictionaries(st.sampled_from(sorted(TELLING)), st.binary(max_size=200)))
def test_no_record_is_too_strange(telling: dict[str, bytes]) -> None:
    Owners(telling).of("usr/bin/git")


def test_what_was_added_is_named_by_what_came_with_it() -> None:
    record = f"{SITE}/evil-1.0.dist-info/RECORD"
    found = compare_trees(
        tree(*BASE),
        tree(*BASE, entry(f"{SITE}/evil.py", b"x"), entry(record, b"evil.py,,\nevil-1.0.dist-info/RECORD,,\n")),
    )
    assert [(it.where.rpartition("/")[2], it.message, it.package) for it in found] == [
        ("RECORD", "was added", "evil 1.0"),
        ("evil.py", "was added", "evil 1.0"),
    ]


def test_an_added_record_cannot_claim_what_was_there() -> None:
    record = entry(f"{SITE}/evil-1.0.dist-info/RECORD", b"../../../../../etc/a,,\n")
    found = compare_trees(tree(*BASE), tree(folder("etc"), entry("etc/a", b"9"), *BASE[2:], record))
    assert (found[0].where, found[0].package) == ("/etc/a", "")


PATHS = st.sampled_from(["a", "b", "c/d", "c/e", "c/f/g"])
TREES = st.dictionaries(PATHS, st.tuples(st.binary(max_size=3), st.sampled_from([0o644, 0o755])), max_size=5)


@settings(max_examples=60)
@given(one=TREES, other=TREES)
def test_every_difference_is_found_and_nothing_else(one: dict[str, Any], other: dict[str, Any]) -> None:
    def made(files: dict[str, Any]) -> Tree:
        return tree(*(entry(path, content, mode=mode) for path, (content, mode) in files.items()))

    found = compare_trees(made(one), made(other))
    differing = {f"/{path}" for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
    assert {it.where for it in found} == differing


# --- whole images -----------------------------------------------------------------------------------------------------

LOCK = make_lock(image=ImageOptions(repository="demo", workdir="/workspace"))
METADATA = (
    folder("opt"),
    folder("opt/envlock"),
    entry("opt/envlock/envlock.lock", dump_lock(LOCK).encode()),
    entry("opt/tool", b"tool"),
)
WORKSPACE = folder("workspace", uid=1000, gid=1000)
PROJECT = Project(
    files=(
        ProjectFile(path="data/x.csv", executable=False, size=1, sha256=hashlib.sha256(b"x").hexdigest()),
        ProjectFile(path="train.py", executable=True, size=2, sha256=hashlib.sha256(b"tr").hexdigest()),
    )
)
MINE = {"uid": 1000, "gid": 1000}
FILES = (
    folder("workspace/data", **MINE),
    entry("workspace/data/x.csv", b"x", **MINE),
    entry("workspace/train.py", b"tr", mode=0o755, **MINE),
)


class FakeEngine:
    def __init__(self, *found: Made, project: Project = PROJECT, lock: Lock = LOCK, **image: Any) -> None:
        labels = {"envlock.fingerprint": fingerprint(lock), "envlock.project": project_digest(project)}
        self.image = make_engine_image(**{"labels": labels, **image})
        self.trees = {"base": tar(*BASE), self.image.id: tar(*found)}

    def find(self, reference: str) -> EngineImage | None:
        return self.image if reference in self.image.tags else None

    @contextmanager
    def tree(self, image: str) -> Iterator[IO[bytes]]:
        yield io.BytesIO(self.trees[image])


@contextmanager
def opened(*entries: Made) -> Iterator[IO[bytes]]:
    yield io.BytesIO(tar(*entries))


def report_on(engine: FakeEngine, **options: Any) -> Report:
    def expectation(lock: Lock, image: EngineImage) -> Expectation:
        assert lock == options.get("lock", LOCK)
        layers = [lambda: opened(*METADATA), lambda: opened(WORKSPACE), *options.get("layers", ())]
        more = {name: options[name] for name in ("again", "config", "with_project") if name in options}
        return Expectation(base="base", layers=layers, **more)

    return verify(
        "demo:latest", engine=engine, expectation=expectation, lock=options.get("lock"), progress=Remembering()
    )


SOUND = (*BASE, *METADATA, WORKSPACE, *FILES)


def test_a_sound_image_has_no_findings() -> None:
    report = report_on(FakeEngine(*SOUND))
    assert report.findings == ()
    assert as_text(report, title="demo") == "demo: 14 files, all as the lock says\n"
    assert as_json(report)["findings"] == []


def test_each_change_is_named() -> None:
    found = (
        *BASE[:1],
        entry("etc/a", b"other"),
        *BASE[2:],
        *METADATA[:3],
        WORKSPACE,
        *FILES,
        entry("usr/bin/evil", b"x"),
    )
    report = report_on(FakeEngine(*found))
    assert said(report.findings) == [
        ("/etc/a", "has other content (5 bytes for 1)"),
        ("/opt/tool", "is missing"),
        ("/usr/bin/evil", "was added"),
    ]
    assert "of no package:\n  /etc/a has other content" in as_text(report, title="demo")
    json.dumps(as_json(report))


@pytest.mark.parametrize(
    "files",
    [
        FILES[:-1],
        (*FILES, entry("workspace/more.py", b"x")),
        (*FILES[:-1], entry("workspace/train.py", b"tr", mode=0o644, **MINE)),
        (*FILES[:-1], entry("workspace/train.py", b"TR", mode=0o755, **MINE)),
    ],
)
def test_another_project_than_the_label_says(files: tuple[Made, ...]) -> None:
    report = report_on(FakeEngine(*BASE, *METADATA, WORKSPACE, *files))
    assert (
        "/workspace",
        "holds other files than the project that the image was built for (label envlock.project)",
    ) in said(report.findings)


def test_a_link_among_the_projects_files_is_no_part_of_it() -> None:
    report = report_on(FakeEngine(*SOUND, link("workspace/l", "/etc/shadow")))
    assert said(report.findings) == [("/workspace/l", "was added")]


def test_the_projects_files_have_the_modes_and_owner_of_a_build() -> None:
    changed = (
        folder("workspace/data", uid=1000, gid=1000, mode=0o777),
        FILES[1],
        entry("workspace/train.py", b"tr", mode=0o6755, uid=0, gid=0),
    )
    assert said(report_on(FakeEngine(*BASE, *METADATA, WORKSPACE, *changed)).findings) == [
        ("/workspace/data", "has mode 0777 for 0755"),
        ("/workspace/train.py", "has mode 6755 for 0755, belongs to 0:0, and not to 1000:1000"),
    ]


def test_an_image_without_a_project() -> None:
    assert report_on(FakeEngine(*BASE, *METADATA, WORKSPACE, project=Project())).findings == ()


def test_settings_are_compared() -> None:
    config = {"Env": ["A=1", "B=2", "C="], "User": "1000:1000", "WorkingDir": "/workspace", "Entrypoint": ["a"]}
    same = FakeEngine(
        *SOUND, env={"A": "1", "B": "2", "C": ""}, user="1000:1000", workdir="/workspace", entrypoint=("a",)
    )
    assert report_on(same, config=config).findings == ()
    other = FakeEngine(*SOUND, env={"A": "1", "B": "3", "LD_PRELOAD": "x"}, user="", workdir="/", entrypoint=())
    assert said(report_on(other, config=config).findings) == [
        ("variable B", "is '3', and has to be '2'"),
        ("variable C", "is missing"),
        ("variable LD_PRELOAD", "was added"),
        ("user", "is '', and has to be '1000:1000'"),
        ("working directory", "is '/', and has to be '/workspace'"),
        ("entrypoint", "is [], and has to be ['a']"),
    ]
    more = FakeEngine(
        *SOUND,
        env={"A": "1", "B": "2", "C": ""},
        user="1000:1000",
        workdir="/workspace",
        entrypoint=("a",),
        config={"Cmd": ["sh", "-c", "evil"], "Volumes": None},
    )
    assert said(report_on(more, config={**config, "Healthcheck": {"Test": ["CMD", "true"]}}).findings) == [
        ("command", "was added"),
        ("health check", "is missing"),
    ]


def test_with_the_project_at_hand_its_files_are_compared() -> None:
    engine = FakeEngine(*SOUND[:-1], entry("workspace/train.py", b"TR", mode=0o755, **MINE), entry("workspace/x", b""))
    report = report_on(engine, layers=[lambda: opened(*FILES)], with_project=True)
    assert said(report.findings) == [("/workspace/train.py", "has other content"), ("/workspace/x", "was added")]
    assert [where for where, _ in said(report_on(engine).findings)] == ["/workspace"]


def test_the_label_has_to_be_the_locks() -> None:
    other = replace(LOCK, name="other")
    report = report_on(FakeEngine(*SOUND), lock=other)
    assert said(report.findings)[0][0] == "label envlock.fingerprint"


def test_no_image_no_lock_and_a_broken_lock() -> None:
    with pytest.raises(InputError, match="has no image"):
        report_on(FakeEngine(*SOUND, tags=()))
    with pytest.raises(InputError, match="carries no lock"):
        report_on(FakeEngine(*BASE))
    with pytest.raises(LockError):
        report_on(FakeEngine(*BASE, entry("opt/envlock/envlock.lock", b"{}")))


def test_made_again_it_has_to_be_the_same() -> None:
    layers = tuple(
        StoredLayer(key=name, diff_id=f"sha256:{name}", size=1, title=f"package {name}") for name in ("one", "two")
    )
    image = ComposedImage(
        config=b"{}", image_id="sha256:x", base_layers=(), base_diff_ids=("sha256:base",), layers=layers
    )
    same = make_engine_image(diff_ids=image.diff_ids)
    again = Again(image=image, ids=frozenset({same.id}), whole=True)
    assert compare_digests(again, same) == ()
    [changed] = compare_digests(replace(again, ids=frozenset({"sha256:x"})), same)
    assert "the configuration is another one" in changed.message
    other = make_engine_image(diff_ids=("sha256:base", "sha256:one", "sha256:2"))
    assert said(compare_digests(again, other)) == [("layer 3: package two", "is sha256:2, and made again sha256:two")]
    more = make_engine_image(diff_ids=(*image.diff_ids, "sha256:more"))
    assert said(compare_digests(again, more)) == [("the image", "has 4 layers, and made again 3")]
    without_project = replace(again, whole=False)
    assert compare_digests(without_project, more) == ()
    assert said(compare_digests(without_project, same)) == [("the image", "has 3 layers, and made again 4")]


def test_many_findings_of_one_package_are_shortened() -> None:
    findings = tuple(Finding(where=f"/f{n}\x1b[2J", message="was added", package="evil 1.0") for n in range(9))
    text = as_text(Report(image=make_engine_image(), fingerprint="f", files=9, findings=findings), title="demo")
    assert "and 4 more" in text
    assert "\x1b" not in text


def test_the_base_and_layers_are_laid_in_order() -> None:
    made = expected_tree(
        lambda: opened(*BASE), [lambda: opened(entry("x", b"1")), lambda: opened(entry(".wh.x"), entry("etc/.wh.a"))]
    )
    assert set(made.nodes) == {"etc", "usr", "usr/lib", "usr/lib/x", "lib"}
