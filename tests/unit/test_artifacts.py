"""The store of files by content: nothing partial, nothing wrong, whatever happens."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envlock.adapters.artifacts import ArtifactStore
from envlock.errors import HashMismatch, IndexFailed, StorageError
from envlock.layers.claims import claimed
from envlock.ports import Wanted
from tests.support.progress import Remembering


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Shelf:
    """Serves files by name, and counts."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def wanted(self, title: str, content: bytes, *, served: Iterable[bytes] | None = None) -> Wanted:
        @contextmanager
        def opened() -> Iterator[Iterable[bytes]]:
            self.opened.append(title)
            yield [content[:3], content[3:]] if served is None else served

        return Wanted(title=title, sha256=sha256(content), size=len(content), open=opened)


def files_in(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def fetch(store: ArtifactStore, *wanted: Wanted) -> dict[str, Path]:
    return store.fetch(wanted, progress=Remembering())


def test_files_are_fetched_once(tmp_path: Path) -> None:
    store, shelf = ArtifactStore(tmp_path), Shelf()
    wanted = [shelf.wanted(f"f{number}", b"content %d" % number) for number in range(20)]
    first = fetch(store, *wanted, wanted[0])
    assert {path.read_bytes() for path in first.values()} == {b"content %d" % number for number in range(20)}
    assert fetch(store, *wanted) == first
    assert sorted(shelf.opened) == sorted(item.title for item in wanted)


def test_a_file_that_was_changed_on_disk_is_noticed_and_fetched_again(tmp_path: Path) -> None:
    store, shelf = ArtifactStore(tmp_path), Shelf()
    wanted = shelf.wanted("wheel", b"right")
    (path,) = fetch(store, wanted).values()
    path.write_bytes(b"wrong")
    assert store.has(wanted.sha256) is None
    (again,) = fetch(store, wanted).values()
    assert again.read_bytes() == b"right"
    assert shelf.opened == ["wheel", "wheel"]


@pytest.mark.parametrize("served", [b"other", b"right and more than was promised", b"righ"])
def test_other_bytes_than_the_lock_says_are_refused_and_not_kept(tmp_path: Path, served: bytes) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(HashMismatch, match=r"numpy-1\.0") as caught:
        fetch(store, Shelf().wanted("numpy-1.0", b"right", served=[served]))
    assert sha256(b"right") in caught.value.details[0]
    assert files_in(tmp_path) == []


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        fetch(ArtifactStore(tmp_path), Shelf().wanted("a", b"content"))
    assert "ENVLOCK_CACHE_DIR" in caught.value.hint
    assert files_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        fetch(ArtifactStore(tmp_path / "file" / "store"), Shelf().wanted("a", b"content"))


def test_one_failure_ends_all_and_leaves_only_whole_files(tmp_path: Path) -> None:
    release = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"slo"
        release.wait(20)
        yield b"w"

    def failing() -> Iterator[bytes]:
        yield b"fai"
        release.set()
        raise IndexFailed("the index closed the connection")

    shelf = Shelf()
    wanted = [
        shelf.wanted("done", b"done and some more, so that it starts first"),
        shelf.wanted("slow", b"slow", served=slow()),
        shelf.wanted("failing", b"failing", served=failing()),
    ]
    with pytest.raises(IndexFailed):
        fetch(ArtifactStore(tmp_path), *wanted)
    assert all(sha256(path.read_bytes()) == path.name for path in files_in(tmp_path))


def test_several_processes_can_share_a_store(tmp_path: Path) -> None:
    shelf = Shelf()
    wanted = [shelf.wanted(f"f{number}", b"content %d" % number * 1000) for number in range(30)]
    results: list[dict[str, Path]] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(ArtifactStore(tmp_path), *wanted))) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2]
    assert all(sha256(path.read_bytes()) == path.name for path in files_in(tmp_path))


def test_what_a_killed_process_left_is_swept_and_what_another_writes_is_not(tmp_path: Path) -> None:
    left, written = tmp_path / ".partial-left", tmp_path / ".partial-written"
    left.write_text("half")
    with claimed(written):
        fetch(ArtifactStore(tmp_path), Shelf().wanted("a", b"content"))
        assert (left.exists(), written.exists()) == (False, True)


def test_a_file_made_here_is_kept_by_its_content(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    name, size, path = store.add([b"made ", b"here"])
    assert (name, size) == (sha256(b"made here"), 9)
    assert store.has(name) == path
