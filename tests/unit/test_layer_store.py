from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from envlock.cache import prune
from envlock.errors import DamagedLayer, StorageError
from envlock.layers.cache import LayerCache
from envlock.layers.claims import scratch
from envlock.layers.store import LayerStore
from envlock.layers.target import Target
from tests.support.layers import HERE, HereCompiler, files_of, maker, saved
from tests.support.packages import wheel

KEY = hashlib.sha256(b"key").hexdigest()
TARGET = Target(python=HERE)


def put(store: LayerStore, key: str = KEY, content: bytes = b"tar", title: str = "t") -> None:
    with store.layers.making(key) as making:
        making.file.write(content)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        making.keep(diff_id=digest, size=len(content), title=title)


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    assert store.find(KEY) is None
    put(store)
    layer = LayerStore(tmp_path).find(KEY)
    assert layer is not None
    assert (layer.size, layer.title) == (3, "t")
    with store.open(layer) as file:
        assert file.read() == b"tar"
    store.drop(KEY)
    assert store.find(KEY) is None
    store.drop(KEY)


def test_a_changed_tar_is_dropped(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    put(store)
    store.layers.path(KEY).write_bytes(b"rat")
    assert store.find(KEY) is None
    assert not store.layers.path(KEY).exists()


def test_a_touched_tar_is_still_good(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    put(store)
    os.utime(store.layers.path(KEY), (1, 1))
    assert store.find(KEY) is not None
    store.layers.path(KEY).unlink()
    assert store.find(KEY) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json"])
def test_a_damaged_description(tmp_path: Path, text: str) -> None:
    store = LayerStore(tmp_path)
    put(store)
    store.layers.path(KEY).with_suffix(".json").write_text(text)
    assert store.find(KEY) is None
    put(store)
    assert store.find(KEY) is not None


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)

    def fail() -> None:
        with store.layers.making(KEY) as making:
            making.file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.find(KEY) is None
    assert list(tmp_path.rglob("*.tar")) == list((tmp_path / "making").iterdir()) == []


def test_a_killed_process_leaves_nothing_that_stays(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from envlock.layers.store import LayerStore
with LayerStore(Path({str(tmp_path)!r})).layers.making({KEY!r}) as making:
    making.file.write(b"half" * 100_000)
    making.file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        store = LayerStore(tmp_path)
        store.sweep()
        assert list((tmp_path / "making").iterdir()) != []  # it still lives
        process.kill()
    store.sweep()
    assert list((tmp_path / "making").iterdir()) == []
    put(store)
    assert store.find(KEY) is not None


def test_a_scratch_folder_goes_even_if_its_process_was_killed(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from envlock.layers.claims import scratch
with scratch(Path({str(tmp_path)!r}), "rebuild") as folder:
    (folder / "layer").write_text("half")
    print(folder, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        other = Path(process.stdout.readline().strip())
        with scratch(tmp_path, "rebuild") as mine:
            assert {mine.parent, other.parent} == set(tmp_path.iterdir())  # it still lives
            put(LayerStore(mine))
            assert LayerStore(mine).recall(KEY) is None
        assert [other.parent] == list(tmp_path.iterdir())
        process.kill()
    with scratch(tmp_path, "rebuild") as mine:
        assert [mine.parent] == list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    found = []

    def make() -> None:
        with LayerStore(tmp_path).layers.making(KEY) as making:
            found.append(making.found)
            if making.found is None:
                time.sleep(0.2)
                making.file.write(b"x")
                making.keep(diff_id="sha256:" + hashlib.sha256(b"x").hexdigest(), size=1, title="")

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is None for one in found) == 1


def test_a_layer_that_was_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    put(store)
    layer = store.find(KEY)
    assert layer is not None
    store.layers.path(KEY).unlink()
    with pytest.raises(DamagedLayer) as caught:
        store.open(layer)
    assert caught.value.key == KEY


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EROFS])
def test_a_store_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    put(LayerStore(tmp_path))
    LayerStore(tmp_path).remember(KEY, [1])

    def utime(path: object, *_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "utime", utime)
    assert LayerStore(tmp_path).find(KEY) is not None
    assert LayerStore(tmp_path).recall(KEY) == [1]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    (tmp_path / "making").mkdir()
    (tmp_path / "making" / f"layers-{KEY}").symlink_to("/dev/full")
    with pytest.raises(StorageError) as caught:
        put(store, content=b"x" * 100_000)
    assert caught.value.hint


def aged(store: LayerStore, key: str, age: float, size: int) -> None:
    put(store, key, b"x" * size, key)
    path = store.layers.path(key).with_suffix(".json")
    os.utime(path, (time.time() - age,) * 2)


def test_pruning_by_age_and_size(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    for key, age, size in (("aa", 90_000, 10), ("bb", 50_000, 500), ("cc", 20_000, 100), ("dd", 0, 2000)):
        aged(store, key, age, size)
    store.remember("ee", {"a": 1})
    cache = LayerCache(store)

    def pruned(**limits: float) -> list[str]:
        return [item.title for item in prune([cache], now=time.time(), **limits).removed]

    assert pruned(unused_for=86_400) == ["aa"]
    assert pruned(most=2200) == ["bb"]
    assert pruned(most=0) == ["cc"]  # what was just used stays
    assert {item.key for item in cache.kept()} == {"dd", "ee"}
    assert store.recall("ee") == {"a": 1}
    orphan = store.layers.path("ff")
    orphan.parent.mkdir()
    orphan.write_bytes(b"never described")
    os.utime(orphan, (1, 1))
    pruned()
    assert not orphan.exists()


def packages(*, changed: str = "1.0") -> list:
    small = [wheel(f"small{number}", files={f"s{number}.py": f"A = {number}\n"}) for number in range(30)]
    noise = bytes(hashlib.sha256(str(number).encode()).digest()[0] for number in range(2_200_000))
    large = wheel("large", files={"large.bin": noise, "large.py": "L = 1\n"})
    return [*small, wheel("changing", changed, files={"changing.py": f"V = {changed!r}\n"}), large]


def test_layers_are_the_same_bytes_whatever_is_there_already(tmp_path: Path) -> None:
    wheels, paths = saved(packages(), tmp_path / "wheels")
    assert max(one.size for one in wheels) > 2 << 20
    make, store = maker(tmp_path / "one", TARGET)
    first = make.make(wheels, fetch=lambda _: paths)
    assert [layer.title for layer in first] == ["large 1.0", "31 packages: changing … small9"]
    assert make.make(wheels, fetch=pytest.fail) == first  # type: ignore[arg-type]
    again, _ = maker(tmp_path / "two", TARGET, workers=1)
    again.make(wheels[:7], fetch=lambda _: paths)
    assert again.make(list(reversed(wheels)), fetch=lambda _: paths) == first
    for layer in first:
        content = store.layers.path(layer.key).read_bytes()
        assert "sha256:" + hashlib.sha256(content).hexdigest() == layer.diff_id
        assert len(content) == layer.size


def test_a_changed_pin_costs_one_wheel(tmp_path: Path) -> None:
    wheels, paths = saved(packages(), tmp_path / "wheels")
    compiler = HereCompiler()
    make, store = maker(tmp_path / "store", TARGET, compiler=compiler)
    before = make.make(wheels, fetch=lambda _: paths)
    other, other_paths = saved(packages(changed="2.0"), tmp_path / "others")
    asked = []
    compiler.paths.clear()

    def fetch(wanted: list) -> dict[str, Path]:
        asked.extend(one.name for one in wanted)
        return other_paths

    after = make.make(other, fetch=fetch)
    assert asked == ["changing"]
    assert [path.rpartition("/")[2] for path in compiler.paths] == ["changing.py"]
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, False]
    files_of(store, after, below=TARGET.venv)


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    wheels, paths = saved(packages()[:5], tmp_path / "wheels")
    make, store = maker(tmp_path / "store", TARGET)
    (layer,) = make.make(wheels, fetch=lambda _: paths)
    store.drop(layer.key)
    for part in list((tmp_path / "store" / "parts").rglob("*.tar"))[:2]:
        status = part.stat()
        content = bytearray(part.read_bytes())
        content[600] ^= 1
        part.write_bytes(content)
        os.utime(part, ns=(status.st_mtime_ns, status.st_mtime_ns))  # as if nothing had happened
    assert make.make(wheels, fetch=lambda _: paths) == (layer,)


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    wheels, paths = saved(packages(), tmp_path / "wheels")
    make, _ = maker(tmp_path / "store", TARGET)

    def advance(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(make.each(wheels, fetch=lambda _: paths, advance=advance))
    assert list((tmp_path / "store" / "making").iterdir()) == []
