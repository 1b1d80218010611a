"""The build context: its files, and the tar that is made while it is read."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from envlock.errors import StorageError
from envlock.formats.context import ContextFile, context_files, needed, tar_stream
from envlock.model.plan import Project, ProjectFile
from envlock.plan import make_plan
from tests.support.locks import make_lock


def text(path: str, content: bytes = b"x", **details) -> ContextFile:
    return ContextFile(path=path, content=content, size=len(content), **details)


def on_disk(place: Path, content: bytes, **details) -> ContextFile:
    place.write_bytes(content)
    return ContextFile(path=place.name, content=place, size=len(content), **details)


def opened(content: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(content))


def test_a_whole_context(tmp_path):
    lock = make_lock()
    file = ProjectFile(path="src/train.py", executable=True, size=5, sha256=hashlib.sha256(b"train").hexdigest())
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/train.py").write_bytes(b"train")
    plan = make_plan(lock, Project(files=(file,), epoch=77), fingerprint="ab" * 32, lock_text="lock\n")
    artifacts = {sha256: tmp_path / sha256 for sha256 in needed(plan)}
    for sha256, path in artifacts.items():
        path.write_bytes(sha256.encode())
    with tar_stream(context_files(plan, dockerfile="FROM x\n", artifacts=artifacts, project=project)) as stream:
        archive = opened(stream.read())
    members = {member.name: member for member in archive}
    assert list(members) == [
        "Dockerfile",
        "apt.txt",
        "apt/SHA256SUMS",
        "apt/git_1%3a2.39.5-0+deb12u2_amd64.deb",
        "apt/libcurl3-gnutls_7.88.1-10+deb12u12_amd64.deb",
        "envlock.lock",
        "installer/pip-25.3-py3-none-any.whl",
        "project/src/train.py",
        "requirements.txt",
        "wheels/numpy-2.1.0-py3-none-any.whl",
        "wheels/scipy-1.14.0-py3-none-any.whl",
    ]
    assert archive.extractfile("project/src/train.py").read() == b"train"
    assert archive.extractfile("wheels/numpy-2.1.0-py3-none-any.whl").read() == lock.wheels[0].sha256.encode()
    assert (members["project/src/train.py"].mode, members["project/src/train.py"].mtime) == (0o755, 77)
    assert {member.uid for member in archive} == {0}
    assert {member.mode for member in archive if "train" not in member.name} == {0o644}


def test_nothing_is_needed_for_an_empty_environment():
    assert needed(make_plan(make_lock(debs=(), wheels=()), Project(), fingerprint="ab" * 32, lock_text="")) == {}


def test_the_same_bytes_in_any_order_and_at_any_time(tmp_path):
    files = [text("b", b"2"), on_disk(tmp_path / "a", b"1" * 5000), text("zażółć/" + "long" * 60)]
    first = tar_stream(files).read()
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o600)
    assert tar_stream(reversed(files)).read() == first
    assert opened(first).getnames() == ["a", "b", "zażółć/" + "long" * 60]


def test_small_reads_give_the_same():
    files = [text("a", b"1" * 1000), text("empty", b""), text("b", b"2" * 512)]
    whole, stream, pieces = tar_stream(files).read(), tar_stream(files), []
    while piece := stream.read(7):
        pieces.append(piece)
    assert b"".join(pieces) == whole
    assert len(whole) % 512 == 0


def test_a_large_file_is_not_held_in_memory(tmp_path):
    size = 200 * 1024 * 1024
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)
    stream = tar_stream([ContextFile(path="large", content=tmp_path / "large", size=size)])
    tracemalloc.start()
    read = 0
    while piece := stream.read(1 << 20):
        read += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read > size
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize("now", [b"shorter", b"much longer than before", b"same len!", None])
def test_a_file_that_is_not_what_it_was(tmp_path, now):
    file = on_disk(tmp_path / "data", b"the first", sha256=hashlib.sha256(b"the first").hexdigest())
    if now is None:
        (tmp_path / "data").unlink()
    else:
        (tmp_path / "data").write_bytes(now)
    with pytest.raises(StorageError, match=r"^data (changed while it was being read|cannot be read: No such file)"):
        tar_stream([file]).read()


def test_a_file_that_grows_does_not_break_the_archive_silently(tmp_path):
    file = on_disk(tmp_path / "data", b"1234")
    with pytest.raises(StorageError):
        tar_stream([replace(file, size=3)]).read()
