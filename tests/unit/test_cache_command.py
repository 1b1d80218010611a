"""``envlock cache``: what is kept, how much, and that pruning takes nothing that is not its own, or in use."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.cache_folder import CacheFolder
from envlock.cache import IN_USE, prune
from envlock.cli.app import app
from envlock.errors import UsageError
from envlock.formats.amounts import ago_text, parse_duration, parse_size, size_text
from envlock.layers.cache import LayerCache
from envlock.layers.store import LayerStore
from envlock.ports import Wanted
from tests.support.progress import Remembering

DAY = 86_400


def hex_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENVLOCK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ENVLOCK_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "cache"


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["cache", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def aged(path: Path, days: float) -> Path:
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def artifact(cache: Path, name: str, size: int, days: float) -> Path:
    _, _, path = ArtifactStore(cache / "artifacts").add([name.encode().ljust(size)])
    return aged(path, days)


def layer(cache: Path, name: str, size: int, days: float) -> Path:
    store = LayerStore(cache / "layers")
    with store.layers.making(hex_of(name)) as making:
        making.file.write(bytes(size))
        digest = hashlib.sha256(bytes(size)).hexdigest()
        making.keep(diff_id=f"sha256:{digest}", size=size, title=name)
    path = store.layers.path(hex_of(name))
    aged(path.with_suffix(".json"), days)
    return path


def small(cache: Path, name: str, size: int, days: float) -> Path:
    path = cache / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return aged(path, days)


def test_what_is_there(cache: Path) -> None:
    assert call() == f"{cache}: 0 B\n"
    assert not cache.exists()
    artifact(cache, "a", 1000, 3)
    artifact(cache, "b", 2000, 5)
    layer(cache, "one", 5_000_000, 0)
    small(cache, f"metadata/metadata/{hex_of('m')}", 10, 9)
    small(cache, f"bases/configs/{hex_of('c')}.json", 20, 16)
    lines = call().splitlines()
    assert lines[0] == f"{cache}: 5.0 MB"
    assert [line.split() for line in lines[1:]] == [
        ["layer", "1", "5.0", "MB", "last", "used", "just", "now"],
        ["artifact", "2", "3.0", "kB", "last", "used", "3", "days", "ago"],
        ["bases", "1", "20", "B", "last", "used", "2", "weeks", "ago"],
        ["metadata", "1", "10", "B", "last", "used", "1", "week", "ago"],
    ]
    answer = json.loads(call("--json"))
    assert (answer["folder"], answer["size"]) == (str(cache), 5_003_030)
    assert [(kind["kind"], kind["count"], kind["size"]) for kind in answer["kinds"]][:2] == [
        ("layer", 1, 5_000_000),
        ("artifact", 2, 3000),
    ]
    assert answer["kinds"][1]["last_used"].endswith("+00:00")


def test_pruning_takes_what_was_not_used_for_long(cache: Path) -> None:
    old, new = artifact(cache, "old", 1000, 40), artifact(cache, "new", 1000, 20)
    assert call("prune") == "  artifact: 1 removed, 1.0 kB\nfreed 1.0 kB; 1.0 kB left\n"
    assert (old.exists(), new.exists()) == (False, True)
    assert json.loads(call("prune", "--unused-for", "10d", "--json"))["freed"] == 1000
    assert not new.exists()
    assert call("prune") == "freed 0 B; 0 B left\n"


def test_pruning_to_a_size_takes_the_longest_unused_of_all_kinds(cache: Path) -> None:
    made = [
        artifact(cache, "a", 1000, 5),
        layer(cache, "l", 1000, 4),
        small(cache, f"metadata/metadata/{hex_of('m')}", 1000, 3),
        artifact(cache, "b", 1000, 2),
    ]
    answer = json.loads(call("prune", "--max-size", "2.5kB", "--json"))
    assert (answer["freed"], answer["left"], answer["in_use"]) == (2000, 2000, 0)
    assert [path.exists() for path in made] == [False, False, True, True]
    assert {kind["kind"]: kind["count"] for kind in answer["removed"]} == {"artifact": 1, "layer": 1}


def test_what_was_just_used_stays(cache: Path) -> None:
    just = [artifact(cache, "a", 1000, 0), layer(cache, "l", 1000, 0), small(cache, f"images/{hex_of('i')}.json", 9, 0)]
    gone = artifact(cache, "b", 500, 1)
    assert call("prune", "--all").endswith("freed 500 B; 2.0 kB left, of which 2.0 kB may be in use\n")
    assert all(path.exists() for path in just)
    assert not gone.exists()


def test_using_a_file_is_noted(cache: Path) -> None:
    path = artifact(cache, "a", 1000, 50)
    store = ArtifactStore(cache / "artifacts")
    wanted = Wanted(title="a", sha256=path.name, size=1000, open=lambda: pytest.fail("fetched"))
    store.fetch([wanted], progress=Remembering())
    assert call("prune", "--all").startswith("freed 0 B")
    (kept,) = store.kept()
    assert time.time() - kept.used < IN_USE


def test_nothing_else_is_touched(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVLOCK_STATE_DIR", str(cache / "bases"))  # as odd as it gets
    names = [
        "images/holiday.jpg",
        "metadata/notes.txt",
        f"elsewhere/{hex_of('x')}",
        f"outbox/{hex_of('x')}.json",
        f"bases/outbox/{hex_of('x')}.json",
        f"artifacts/sha256/ab/{hex_of('x')}.txt",
        "artifacts/mine",
        f"layers/layers/ab/{hex_of('x')}.txt",
        f"images/{hex_of('x')}.making",
    ]
    mine = [small(cache, name, 10, 400) for name in names]
    (tmp_path / "far").mkdir()
    far = small(tmp_path / "far", hex_of("far"), 10, 400)
    (cache / "images" / hex_of("link")).symlink_to(tmp_path / "far")
    (cache / "metadata" / "link").symlink_to(tmp_path / "far")
    assert call("prune", "--all") == "freed 0 B; 0 B left\n"
    assert all(path.exists() for path in [*mine, far])


def test_a_whole_folder_goes_at_once_and_not_within_a_day(cache: Path) -> None:
    root = cache / "bases" / "roots" / hex_of("base")
    small(root, "usr/bin/python", 1000, 400)
    (root / "usr/bin/python3").symlink_to("python")
    (root / "usr/bin").chmod(0o500)
    aged(root, 400)
    folder = CacheFolder(cache / "bases")
    (item,) = folder.kept()
    assert (item.kind, item.key) == ("bases", f"roots/{root.name}")
    assert item.size >= 1000
    assert call("prune", "--all").endswith("may be in use\n")  # it was unpacked just now
    assert root.exists()
    later = time.time() + 2 * DAY
    assert [one.key for one in prune([folder], now=later, most=0).removed] == [item.key]
    assert list((cache / "bases" / "roots").iterdir()) == []
    left = cache / "bases" / "roots" / ".removed-1"
    left.mkdir()
    folder.tidy()
    assert not left.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prune", "--max-size", "20"], "not a size"),
        (["prune", "--max-size", "20 GB"], "not a size"),
        (["prune", "--max-size", "-1GB"], "not a size"),
        (["prune", "--max-size", "1e3GB"], "not a size"),
        (["prune", "--max-size", "٣GB"], "not a size"),
        (["prune", "--max-size", "20GB\n"], "not a size"),
        (["prune", "--unused-for", "30"], "not a duration"),
        (["prune", "--unused-for", "1.5d"], "not a duration"),
        (["prune", "--unused-for", "d"], "not a duration"),
        (["prune", "--unused-for", "9999999d"], "not a duration"),
        (["prune", "--all", "--max-size", "1GB"], "--all goes without"),
        (["--all"], "only pruning has limits"),
        (["--max-size", "1GB"], "only pruning has limits"),
        (["purge"], "not a command"),
    ],
)
def test_wrong_words(cache: Path, arguments: list[str], words: str) -> None:
    path = artifact(cache, "a", 1000, 400)
    said = call(*arguments, code=2)
    assert words in said
    assert "hint:" in said or "--all" in words
    assert path.exists()


def test_amounts() -> None:
    sizes = {"0B": 0, "20GB": 20 * 10**9, "1.5TB": 15 * 10**11, "512MiB": 512 << 20, "3kB": 3000, "3KB": 3000}
    assert {text: parse_size(text) for text in sizes} == sizes
    times = {"0s": 0, "90m": 5400, "12h": 43200, "30d": 30 * DAY, "8w": 56 * DAY}
    assert {text: parse_duration(text) for text in times} == times
    with pytest.raises(UsageError):
        parse_size("")
    shown = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_960: "1.0 MB", 2_100_000_000: "2.1 GB", 10**13: "10.0 TB"}
    assert {size: size_text(size) for size in shown} == shown
    assert [ago_text(seconds) for seconds in (-5, 59, 60, 7200, 2 * DAY)] == [
        "just now",
        "just now",
        "1 minute ago",
        "2 hours ago",
        "2 days ago",
    ]


# --- several processes ------------------------------------------------------------------------------------------------

USER = """
import sys, hashlib
from pathlib import Path
from envlock.adapters.artifacts import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(400):
    content = b"%d" % (number % 20)
    path = store.has(hashlib.sha256(content).hexdigest())
    if path is None:
        _, _, path = store.add([content])
    assert path.read_bytes() == content
"""


def test_pruning_beside_a_process_that_uses_files(tmp_path: Path) -> None:
    """What is found stays for as long as it may be in use, however old it was a moment before."""
    store, stop = ArtifactStore(tmp_path), threading.Event()
    for number in range(20):
        _, _, path = store.add([b"%d" % number])
        aged(path, 1)
    removed: list[str] = []

    def pruning() -> None:
        while not stop.is_set():
            removed.extend(item.key for item in prune([store], now=time.time(), most=0).removed)

    with subprocess.Popen(
        [sys.executable, "-c", USER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        thread = threading.Thread(target=pruning)
        thread.start()
        code = process.wait()
        stop.set()
        thread.join()
    assert code == 0
    assert len(removed) == len(set(removed)) <= 20


def test_what_is_wanted_while_it_is_looked_at_stays(tmp_path: Path) -> None:
    """A list of what is old may be old itself."""
    artifacts, layers = ArtifactStore(tmp_path / "artifacts"), LayerCache(LayerStore(tmp_path / "layers"))
    first, tar = artifact(tmp_path, "a", 10, 9), layer(tmp_path, "l", 10, 9)
    LayerStore(tmp_path / "layers").remember(hex_of("n"), {"a": 1})
    aged(next((tmp_path / "layers" / "notes").rglob("*.json")), 9)
    old = [*((item, artifacts) for item in artifacts.kept()), *((item, layers) for item in layers.kept())]
    assert {item.kind for item, _ in old} == {"artifact", "layer", "note"}
    assert artifacts.has(first.name) == first
    assert LayerStore(tmp_path / "layers").find(hex_of("l")) is not None
    assert LayerStore(tmp_path / "layers").recall(hex_of("n")) == {"a": 1}
    since = time.time() - IN_USE
    assert [keeper.remove(item, since=since) for item, keeper in old] == [False, False, False]
    assert first.exists()
    assert tar.exists()
    later = time.time() + 1
    assert [keeper.remove(item, since=later) for item, keeper in old] == [True, True, True]
    assert [keeper.remove(item, since=later) for item, keeper in old] == [True, True, True]  # another was faster
    assert (list(artifacts.kept()), list(layers.kept())) == ([], [])
