"""Looking into bases: what is remembered, what is asked of whom, and what two ways say of the same base."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

import pytest

from envlock.adapters.bases import unrooted
from envlock.errors import BuildFailed, EngineError, HashMismatch, RegistryError, UnknownImage, WorldError
from envlock.formats.base_files import BaseFiles, Found
from envlock.layers.compiler import Source
from envlock.layers.skeleton import read_skeleton
from tests.support.bases import (
    PLATFORM,
    MadeBase,
    MemoryEngine,
    MemoryRegistry,
    engine_bases,
    layer,
    unpacked_bases,
)
from tests.support.layers import HERE
from tests.support.tars import entry, folder, link

PASSWD = b"root:x:0:0:Sup\xe9rieur:/root:/bin/sh\n"
SOURCES = [Source("/opt/venv/x.py", b"x = 1\n"), Source("/opt/venv/bad.py", b"def\n")]
LAYERS = [
    layer(
        folder("./", mode=0o700),
        folder("./etc"),
        entry("./etc/passwd", PASSWD),
        entry("./etc/group", b"root:x:0:\n"),
        link("./etc/mtab", "/proc/mounts", mode=0o755),
        folder("./proc", mode=0o555),
        folder("./dev", mode=0o700),
        link("./dev/fd", "/proc/self/fd"),
        folder("./srv", uid=3, gid=4, mode=0o2775),
        link("./lib", "usr/lib", mode=0o755),
    ),
    layer(folder("opt"), entry(".wh.srv"), folder("var", mode=0o1777)),
]
# The same in a container: what the engine puts there, the kernel's own modes of links.
IN_CONTAINER = BaseFiles(
    entries={
        "etc": Found(),
        "etc/mtab": Found(target="/proc/mounts", mode=0o777),
        "etc/resolv.conf": Found(target="../run/resolv.conf"),
        "lib": Found(target="usr/lib", mode=0o777),
        "opt": Found(),
        "var": Found(mode=0o1777),
    },
    passwd=PASSWD,
    group=b"root:x:0:\n",
)


@pytest.fixture
def made() -> MadeBase:
    return MadeBase(LAYERS, volumes=["/var/data"])


@pytest.fixture
def registry(made: MadeBase) -> MemoryRegistry:
    return MemoryRegistry(made)


def engine_with(made: MadeBase, base: Any = None, *, form: str = "legacy") -> MemoryEngine:
    return MemoryEngine().with_base(made, base or made.base(), files=IN_CONTAINER, archive=made.saved(form))


# --- configurations ---------------------------------------------------------------------------------------------------


def test_a_configuration_is_asked_for_once(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    engine = engine_with(made)
    for bases in (engine_bases(engine, registry, tmp_path), unpacked_bases(registry, tmp_path)):
        with bases.opened(made.base(), platform=PLATFORM) as opened:
            assert opened.config() == made.config
    assert len(registry.asked) == 2  # the manifest and the configuration
    assert engine.asked == []
    (kept,) = (tmp_path / "cache").rglob("configs/*")
    kept.write_bytes(kept.read_bytes()[:-1])
    with unpacked_bases(registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        assert opened.config() == made.config
    assert len(registry.asked) == 4
    assert kept.read_bytes() == made.config


def test_another_configuration_than_the_locks_is_refused(
    made: MadeBase, registry: MemoryRegistry, tmp_path: Path
) -> None:
    base = made.base(image_id="sha256:" + "0" * 64)
    with (
        unpacked_bases(registry, tmp_path).opened(base, platform=PLATFORM) as opened,
        pytest.raises(HashMismatch, match="0000"),
    ):
        opened.config()
    made.content[made.base().image_id] = b"{}"
    with (
        unpacked_bases(registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened,
        pytest.raises(HashMismatch),
    ):
        opened.config()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("form", ["legacy", "", ".gz"])
def test_an_engine_has_the_configuration_where_the_registry_fails(
    made: MadeBase, registry: MemoryRegistry, tmp_path: Path, form: str
) -> None:
    engine, registry.down = engine_with(made, form=form), True
    with engine_bases(engine, registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        assert opened.config() == made.config
    assert engine.asked == [f"save {made.base().pinned}"]


def test_what_the_registry_said_is_told_where_the_engine_has_not_the_base(
    made: MadeBase, registry: MemoryRegistry, tmp_path: Path
) -> None:
    registry.down = True
    with (
        engine_bases(MemoryEngine(), registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened,
        pytest.raises(RegistryError, match="does not answer"),
    ):
        opened.config()


def test_no_more_of_an_image_is_read_than_its_configuration(
    made: MadeBase, registry: MemoryRegistry, tmp_path: Path
) -> None:
    engine = engine_with(made, made.local())
    engine.archive = made.saved("legacy", after=1 << 20)
    with engine_bases(engine, registry, tmp_path).opened(made.local(), platform=PLATFORM) as opened:
        assert opened.config() == made.config
    assert engine.stream.tell() < 100_000
    assert registry.asked == []


def test_an_engine_that_packs_something_else(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    other = MadeBase([layer(entry("x", b"y"))])
    engine = engine_with(made, made.local())
    for archive, error in ((other.saved("legacy"), HashMismatch), (b"no tar" * 99, EngineError)):
        engine.archive = archive
        with engine_bases(engine, registry, tmp_path).opened(made.local(), platform=PLATFORM) as opened:
            with pytest.raises(error):
                opened.config()
            with pytest.raises(error):
                opened.local_layers()


def test_a_local_base_that_is_known_by_its_manifest(registry: MemoryRegistry, tmp_path: Path) -> None:
    manifest = b'{"schemaVersion": 2, "config": {}, "layers": []}'
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    base = registry.made.local(image_id=digest)
    engine = engine_with(registry.made, base)
    engine.archive = layer(entry(f"blobs/sha256/{digest[7:]}", manifest))
    with (
        engine_bases(engine, registry, tmp_path).opened(base, platform=PLATFORM) as opened,
        pytest.raises(EngineError, match="digest of a manifest"),
    ):
        opened.config()
    assert not list((tmp_path / "cache").rglob("configs/*.json"))


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_containers_and_layers_say_the_same(tmp_path: Path, packing: str) -> None:
    made = MadeBase(LAYERS, packing=packing, volumes=["/var/data"])
    registry, engine = MemoryRegistry(made), engine_with(made)
    with engine_bases(engine, registry, tmp_path / "one").opened(made.base(), platform=PLATFORM) as opened:
        in_container = opened.files()
    with unpacked_bases(registry, tmp_path / "two").opened(made.base(), platform=PLATFORM) as opened:
        assert opened.files() == in_container
    assert in_container.entries == {
        "etc": Found(),
        "lib": Found(target="usr/lib", mode=0o777),
        "opt": Found(),
        "var": Found(mode=0o1777),
    }
    assert in_container.passwd == PASSWD
    assert engine.asked == ["start", "list var/data", "end"]


def test_files_are_looked_at_once_whoever_looked(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    engine = engine_with(made)
    with engine_bases(engine, registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        found = opened.files()
    with unpacked_bases(registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        assert opened.files() == found
    assert not any(made.blobs[0].digest in line for line in registry.asked)
    (kept,) = (tmp_path / "cache").rglob("files/*")
    kept.write_bytes(kept.read_bytes().replace(b"usr/lib", b"usr/lob"))  # still sound JSON
    with unpacked_bases(registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        assert opened.files() == found
    assert any(made.blobs[0].digest in line for line in registry.asked)


def test_other_layers_are_another_base(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    with unpacked_bases(registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        opened.files()
    other = MadeBase([*LAYERS, layer(folder("more"))])
    with unpacked_bases(MemoryRegistry(other), tmp_path).opened(other.base(), platform=PLATFORM) as opened:
        assert "more" in opened.files().entries


def test_a_layer_that_is_no_tar(tmp_path: Path) -> None:
    for broken in (b"\x1f\x8bno gzip", b"\x28\xb5\x2f\xfdno zstd", b"no tar at all" * 99):
        made = MadeBase([broken], packing="")
        bases = unpacked_bases(MemoryRegistry(made), tmp_path)
        with bases.opened(made.base(), platform=PLATFORM) as opened:
            for question in (opened.files, lambda opened=opened: opened._unpacked()):
                with pytest.raises(WorldError, match="cannot be read"):
                    question()
    assert not list((tmp_path / "cache").rglob("roots/*"))


def test_layers_are_fetched_once(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    with unpacked_bases(registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        opened.files()
        asked = list(registry.asked)
        for blob in made.blobs:
            with opened.layer(blob) as stream:
                assert stream.read() == made.content[blob.digest]
    assert registry.asked == asked
    made.content[made.blobs[1].digest] = b"x" * made.blobs[1].size
    with (
        unpacked_bases(registry, tmp_path / "else").opened(made.base(), platform=PLATFORM) as opened,
        pytest.raises(HashMismatch),
    ):
        opened.files()


# --- one container ----------------------------------------------------------------------------------------------------


def test_files_are_listed_before_anything_is_changed(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    engine = engine_with(made)
    with engine_bases(engine, registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        assert opened.skeleton("/opt/venv") == {"/opt/venv/x": {"folder": True}}
        opened.files()
    assert engine.asked == ["start", "list var/data", "skeleton /opt/venv", "end"]


def test_what_compiles_has_a_container_of_its_own(
    made: MadeBase, registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no interpreter of this machine
    base = made.base(python=replace(made.base().python, version=HERE))
    engine = engine_with(made)
    with engine_bases(engine, registry, tmp_path).opened(base, platform=PLATFORM) as opened:
        opened.warm()
        for _ in range(2):
            with opened.compiler() as compiler:
                assert [content and content[:4] for content in compiler.compile(SOURCES)] == [MAGIC_NUMBER, None]
    assert sorted(engine.asked) == ["end pipe", "end pipe", *2 * [f"pipe {base.python.executable}"]]


def test_another_version_is_refused(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    base = made.base(python=replace(made.base().python, version="3.2.99"))
    with (
        engine_bases(engine_with(made), registry, tmp_path).opened(base, platform=PLATFORM) as opened,
        opened.compiler() as compiler,
    ):
        opened.warm()
        with pytest.raises(WorldError, match=r"needs exactly that version, not 3\.") as caught:
            compiler.compile(SOURCES)
    assert "3.2.99" in caught.value.message


def test_nothing_starts_that_is_not_needed(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    engine = engine_with(made)
    bases = engine_bases(engine, registry, tmp_path)
    with bases.opened(made.base(), platform=PLATFORM) as opened, opened.compiler():
        opened.config()
    assert engine.asked == []


def test_warming_never_pulls(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    engine = MemoryEngine()
    engine.asked = []
    had: list[str] = []
    bases = replace(engine_bases(engine, registry, tmp_path), have=lambda base, *, platform: had.append(platform) or "")
    with bases.opened(made.base(), platform=PLATFORM) as opened:
        opened.warm()
    assert (engine.asked, had) == ([], [])


def test_one_container_for_whoever_asks(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    engine = engine_with(made)
    with engine_bases(engine, registry, tmp_path).opened(made.base(), platform=PLATFORM) as opened:
        opened.warm()
        opened.warm()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: opened.files(), range(4)))
            list(pool.map(opened.skeleton, ["/opt/venv"] * 4))
    assert engine.asked.count("start") == engine.asked.count("end") == 1
    assert engine.asked.count("list var/data") == 1


# --- the empty environment --------------------------------------------------------------------------------------------


def test_a_base_that_adds_packages_to_every_environment() -> None:
    with pytest.raises(BuildFailed, match="adds 2 packages") as caught:
        read_skeleton(b'{"entries": {"/x": {"folder": true}}, "installed": ["left", "right"]}')
    assert caught.value.details == ("left", "right")
    for nonsense in (b"", b"[]", b"{}", b'{"entries": {}, "installed": []}', b'{"entries": 1, "installed": []}'):
        with pytest.raises(WorldError, match="did not make"):
            read_skeleton(nonsense)


def test_a_base_that_has_something_there(registry: MemoryRegistry, tmp_path: Path) -> None:
    made = MadeBase([*LAYERS, layer(folder("opt"), folder("opt/venv"))])
    files = replace(IN_CONTAINER, entries={**IN_CONTAINER.entries, "opt/venv": Found()})
    engine = MemoryEngine().with_base(made, made.base(), files=files)
    for bases in (
        engine_bases(engine, MemoryRegistry(made), tmp_path / "1"),
        unpacked_bases(MemoryRegistry(made), tmp_path / "2"),
    ):
        with (
            bases.opened(made.base(), platform=PLATFORM) as opened,
            pytest.raises(BuildFailed, match="/opt/venv already"),
        ):
            opened.skeleton("/opt/venv")


def test_what_was_made_elsewhere_says_where_it_will_be() -> None:
    import base64

    def content(text: bytes) -> dict[str, Any]:
        return {"content": base64.b64encode(text).decode(), "executable": False}

    entries = {
        "/t/x/opt/venv/bin/python3": {"link": "/c/root/usr/bin/python3"},
        "/t/x/opt/venv/bin/python": {"link": "python3"},
        "/t/x/opt/venv/pyvenv.cfg": content(b"home = /c/root/usr/bin\ncommand = /t/x/opt/venv /t/x-ray\n"),
        "/t/x/opt/venv/lib": {"folder": True},
    }
    assert unrooted._without(entries, ("/t/x", "/c/root")) == {
        "/opt/venv/bin/python3": {"link": "/usr/bin/python3"},
        "/opt/venv/bin/python": {"link": "python3"},
        "/opt/venv/pyvenv.cfg": content(b"home = /usr/bin\ncommand = /opt/venv /t/x-ray\n"),
        "/opt/venv/lib": {"folder": True},
    }


def test_a_folder_whose_name_scripts_would_quote_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "it's a folder"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    assert unrooted._PLAIN.fullmatch(str(unrooted._new_folder()))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert unrooted._new_folder().parent == tmp_path


# --- without an engine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "libc", "words"),
    [("linux/arm64", "glibc 2.36", "for linux/arm64"), (PLATFORM, "musl 1.2", "musl"), (PLATFORM, "", "C library")],
)
def test_a_python_that_cannot_run_here(
    registry: MemoryRegistry, tmp_path: Path, platform: str, libc: str, words: str
) -> None:
    python = replace(registry.made.base().python, libc=libc, version="3.2.99")
    base = registry.made.base(python=python)
    bases = unpacked_bases(registry, tmp_path)
    with bases.opened(base, platform=platform) as opened:
        questions = [lambda: opened.skeleton("/opt/venv")]
        with opened.compiler() as compiler:
            questions.append(lambda: compiler.compile([]))
            for question in questions:
                with pytest.raises(WorldError, match=words) as caught:
                    question()
                assert "3.2.99" in caught.value.hint
        assert opened.files().passwd == PASSWD  # which needs no Python
    assert bases.progress.messages == []  # type: ignore[attr-defined]


def test_a_base_that_only_an_engine_has(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    with unpacked_bases(registry, tmp_path).opened(made.local(), platform=PLATFORM) as opened:
        for question in (opened.config, opened.files, opened.local_layers):
            with pytest.raises(UnknownImage, match="in no registry"):
                question()


@pytest.mark.parametrize("form", ["legacy", "", ".gz", ".zst"])
def test_layers_out_of_an_engine(made: MadeBase, registry: MemoryRegistry, tmp_path: Path, form: str) -> None:
    doubled = MadeBase([*LAYERS, LAYERS[0]])
    engine = engine_with(doubled, doubled.local(), form=form)
    bases = engine_bases(engine, registry, tmp_path)
    for _ in range(2):
        with bases.opened(doubled.local(), platform=PLATFORM) as opened:
            layers = opened.local_layers()
        assert tuple(one.diff_id for one in layers) == doubled.diff_ids
        for one, tar in zip(layers, doubled.layers, strict=True):
            with bases.store.open(one) as stream:
                assert stream.read() == tar
            assert one.size == len(tar)
    assert len(engine.asked) == 1
    assert list((tmp_path / "cache" / "spool").iterdir()) == []
    with bases.opened(made.base(), platform=PLATFORM) as opened:
        assert opened.local_layers() == ()


def test_layers_that_are_not_the_bases(made: MadeBase, registry: MemoryRegistry, tmp_path: Path) -> None:
    engine = engine_with(made, made.local())
    engine.archive = MadeBase([LAYERS[0], layer(folder("other"))]).saved("legacy")
    with (
        engine_bases(engine, registry, tmp_path).opened(made.local(), platform=PLATFORM) as opened,
        pytest.raises(HashMismatch, match=made.diff_ids[1]),
    ):
        opened.local_layers()
