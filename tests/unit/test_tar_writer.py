from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envlock.layers.tar_writer import EPOCH, TarWriter

part = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=120).filter(
    lambda text: text not in {".", ".."}
)
paths = st.lists(part, min_size=1, max_size=5).map("/".join)
trees = st.dictionaries(paths, st.tuples(st.binary(max_size=1500), st.booleans()), max_size=6)


def written(tree: dict[str, tuple[bytes, bool]]) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    tar = TarWriter(buffer)
    for path, (content, executable) in tree.items():
        tar.file(path, (content[:7], content[7:]), size=len(content), executable=executable)
    result = tar.finish()
    assert result.size == len(buffer.getvalue())
    return buffer.getvalue(), result.diff_id


@given(trees)
def test_what_is_written_is_read_back(tree: dict[str, tuple[bytes, bool]]) -> None:
    content, diff_id = written(tree)
    assert diff_id == "sha256:" + hashlib.sha256(content).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = [entry for entry in archive if entry.isreg()]
        folders = [entry.name for entry in archive if entry.isdir()]
        assert [entry.name for entry in files] == list(tree)
        for entry in archive:
            assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", EPOCH)
        for entry in files:
            stream = archive.extractfile(entry)
            assert stream is not None
            assert stream.read() == tree[entry.name][0]
            assert entry.mode == (0o755 if tree[entry.name][1] else 0o644)
    needed = {path.rsplit("/", depth)[0] for path in tree for depth in range(1, path.count("/") + 1)}
    assert set(folders) == needed
    assert len(folders) == len(needed)


def test_folders_come_before_what_is_in_them() -> None:
    content, _ = written({"a/b/c/one": (b"", False), "a/b/two": (b"", False)})
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["a", "a/b", "a/b/c", "a/b/c/one", "a/b/two"]


def test_links_and_long_targets() -> None:
    buffer = io.BytesIO()
    tar = TarWriter(buffer)
    targets = {"bin/python": "python3", "bin/long": "x/" * 80 + "end", "bin/odd": "żółw"}
    for path, target in targets.items():
        tar.symlink(path, target)
    tar.finish()
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        assert {entry.name: entry.linkname for entry in archive if entry.issym()} == targets


class Zeros(io.RawIOBase):
    """A file that only counts and keeps the beginning."""

    def __init__(self) -> None:
        self.head = b""

    def write(self, data: bytes) -> int:
        if len(self.head) < 4096:
            self.head += bytes(data[:4096])
        return len(data)


def test_more_than_ustar_can_say() -> None:
    size = 9 << 30
    sink = Zeros()
    tar = TarWriter(sink)  # type: ignore[arg-type]
    tar._digest = type("Nothing", (), {"update": lambda *_: None, "hexdigest": lambda _: ""})()
    block = bytes(64 << 20)
    tar.file("large", (block for _ in range(size // len(block))), size=size)
    tar.finish()
    entry = tarfile.TarFile.open(fileobj=io.BytesIO(sink.head), mode="r:").firstmember
    assert entry is not None
    assert entry.size == size


@pytest.mark.parametrize("content", [b"12", b"1234"])
def test_a_file_of_another_size_than_announced(content: bytes) -> None:
    with pytest.raises(ValueError, match="3 bytes were announced"):
        TarWriter(io.BytesIO()).file("x", (content,), size=3)


def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    tree = {"a/" + "n" * 100: (b"1", False), "b/" * 90 + "deep": (b"2", True), "zażółć/gęślą": (b"3", False)}
    content, _ = written(tree)
    done = subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    for path, (text, executable) in tree.items():
        assert (tmp_path / path).read_bytes() == text
        assert bool((tmp_path / path).stat().st_mode & 0o111) == executable
