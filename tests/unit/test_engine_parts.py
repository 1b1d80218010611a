"""The parts of the engine's adapter that need no engine."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import docker.errors
import pytest
import requests
import urllib3

from envlock.adapters.engine import DockerEngine
from envlock.adapters.engine.build import Trace
from envlock.adapters.engine.endpoint import Endpoint
from envlock.adapters.engine.failures import refused, unreachable
from envlock.adapters.engine.files import entries_of, tar_of
from envlock.adapters.engine.lines import Lines
from envlock.adapters.engine.streams import reader_of
from envlock.adapters.engine.transfers import refused_by_registry
from envlock.errors import EngineError, InputError, RegistryError, StorageError, UnknownImage
from envlock.formats.reference import parse_reference

# --- files ------------------------------------------------------------------------------------------------------------


def test_tar_holds_bytes_and_streamed_files(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(700_001))
    long = "/opt/" + "x" * 150 + "/żółw.txt"
    blocks = list(tar_of({"/opt/a.sh": b"#!", long: b"", "/big": big}, executable=["/opt/a.sh"]))
    assert max(map(len, blocks)) <= 256 << 10  # nothing big was in memory at once
    with tarfile.open(fileobj=io.BytesIO(b"".join(blocks))) as archive:
        modes = {entry.name: (entry.mode, entry.uid, entry.gid) for entry in archive}
        assert modes == {"opt/a.sh": (0o755, 0, 0), long[1:]: (0o644, 0, 0), "big": (0o644, 0, 0)}
        content = archive.extractfile("big")
        assert content
        assert content.read() == big.read_bytes()


def test_missing_or_shrinking_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        list(tar_of({"/x": tmp_path / "none"}))
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    blocks = tar_of({"/x": file})
    next(blocks)  # the header says 100 bytes
    file.write_bytes(b"x")
    with pytest.raises(StorageError, match="became shorter"):
        list(blocks)


def test_hostile_archive_is_only_read() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("top/a", "top/../../etc/passwd", "/top/b/c", "top/link"):
            entry = tarfile.TarInfo(name)
            if name == "top/link":
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(entry)
            else:
                entry.size = 2
                archive.addfile(entry, io.BytesIO(b"ok"))
    blocks = [buffer.getvalue()[at : at + 1000] for at in range(0, len(buffer.getvalue()), 1000)]
    found = {name: content.read() if content else None for name, _, content in entries_of(blocks)}
    assert found == {"a": b"ok", "b/c": b"ok", "link": None}


# --- streams ----------------------------------------------------------------------------------------------------------


def test_stdout_is_put_together_and_stderr_goes_aside() -> None:
    aside = bytearray()
    receive = reader_of(iter([(1, b"ab"), (2, b"!"), (1, b"cdef"), (2, b"?")]), stderr=aside.extend)
    assert [receive(3), receive(1), receive(10), receive(1)] == [b"abc", b"d", b"ef", b""]
    assert aside == b"!?"


def test_lines_are_told_when_they_are_whole() -> None:
    told: list[str] = []
    lines = Lines(told.append)
    for data in (b"one\ntw", b"o\r\n", b"10%\r20%\r", "ż".encode()[:1], "ż".encode()[1:], b"\xff"):
        lines.add(data)
    assert told == ["one", "two", "10%", "20%"]
    lines.finish()
    assert told[4:] == ["ż\ufffd"]
    assert lines.content == "one\ntwo\r\n10%\r20%\rż".encode() + b"\xff"


# --- the builder's output ---------------------------------------------------------------------------------------------


def test_trace_tells_what_a_build_made_from_what_it_found() -> None:
    trace = Trace()
    for line in (
        "Step 1/4 : FROM base AS one",
        " ---> 111111111111",
        "Step 2/4 : RUN a",
        " ---> Using cache",
        " ---> 222222222222",
        "Step 3/4 : COPY x y",
        " ---> 333333333333",
        "Step 4/4 : RUN b",
        " ---> Running in aaaaaaaaaaaa",
        "some output",
        " ---> this is output, too",
        "Removing intermediate container aaaaaaaaaaaa",
        " ---> 444444444444",
        "Successfully built 444444444444",
    ):
        trace.line(line)
    assert trace.images == ["333333333333", "444444444444"]
    assert trace.containers == ["aaaaaaaaaaaa"]
    assert list(trace.output) == ["some output", " ---> this is output, too"]
    assert (trace.step, trace.instruction) == ("4/4", "RUN b")


# --- faults -----------------------------------------------------------------------------------------------------------

HERE = Endpoint(host="unix:///var/run/docker.sock", chosen_by="the default")


def wrapped(cause: Exception) -> requests.ConnectionError:
    """Wrap as urllib3 and requests do."""
    return requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", cause))


@pytest.mark.parametrize(
    ("cause", "message", "hint"),
    [
        (PermissionError(13, "Permission denied"), "no permission to use the engine", "docker"),
        (FileNotFoundError(2, "No such file"), "no Docker engine answers", "DOCKER_HOST"),
        (ConnectionRefusedError(111, "refused"), "no Docker engine answers", "DOCKER_HOST"),
        (TimeoutError("timed out"), "does not answer in time", "reachable"),
        (ConnectionResetError(104, "reset"), "broke", "restarted"),
        (OSError(28, "No space left on device"), "this machine's disk is full", ""),
    ],
)
def test_engine_that_cannot_be_talked_to(cause: Exception, message: str, hint: str) -> None:
    error = unreachable(wrapped(cause), HERE, doing="testing")
    assert message in error.message
    assert hint in error.hint
    assert isinstance(error, EngineError)


def test_cause_is_not_what_somebody_else_was_handling() -> None:
    """A caller may ask the engine while it handles another error: that one is the context of ours."""
    earlier = RegistryError("earlier trouble")
    earlier.__context__ = PermissionError(13, "of another file")
    error = ConnectionResetError(104, "reset")
    error.__context__ = earlier
    assert "broke" in unreachable(error, HERE, doing="testing").message


def api_error(words: str, status: int = 500) -> docker.errors.APIError:
    response = requests.Response()
    response.status_code = status
    return docker.errors.APIError("500 Server Error", response=response, explanation=words)


def test_engine_that_refuses() -> None:
    assert "disk is full" in refused(api_error("write /x: no space left on device"), doing="x").message
    assert "platform" in refused(api_error("exec /bin/sh: exec format error"), doing="x").message
    error = refused(api_error("cannot do https://me:hunter22@host/x"), doing="x")
    assert "hunter22" not in error.message


@pytest.mark.parametrize(
    ("doing", "words", "kind", "message"),
    [
        ("pull", "manifest for a:1 not found: manifest unknown: manifest unknown", UnknownImage, "has no"),
        (
            "pull",
            "pull access denied for a, repository does not exist or may require 'docker login'",
            UnknownImage,
            "has no",
        ),
        ("pull", "no matching manifest for linux/arm64/v8 in the manifest list entries", InputError, "platform"),
        ("push", "denied: requested access to the resource is denied", RegistryError, "does not let us push"),
        ("push", "unauthorized: authentication required", RegistryError, "does not let us push"),
        ("push", "no basic auth credentials", RegistryError, "does not let us push"),
        ("pull", "toomanyrequests: You have reached your pull rate limit", RegistryError, "enough of us"),
        ("push", 'Get "https://r/v2/": http: server gave HTTP response to HTTPS client', RegistryError, "plain HTTP"),
        ("push", 'Get "https://r/v2/": x509: certificate signed by unknown authority', RegistryError, "certificate"),
        (
            "push",
            'Get "http://r/v2/": dial tcp 1.2.3.4:5000: connect: connection refused',
            RegistryError,
            "cannot reach",
        ),
        ("pull", 'Get "https://r/v2/": dial tcp: lookup r: no such host', RegistryError, "cannot reach"),
        ("push", "received unexpected HTTP status: 500 Internal Server Error", RegistryError, "failed"),
        ("pull", "write /var/lib/docker/tmp/x: no space left on device", EngineError, "disk is full"),
        ("push", "An image does not exist locally with the tag: a", UnknownImage, "engine has no image"),
    ],
)
def test_what_registries_say(doing: str, words: str, kind: type, message: str) -> None:
    error = refused_by_registry(words, parse_reference("r.example.org/a:1"), doing=doing)
    assert type(error) is kind
    assert message in error.message
    if "failed" not in message:
        assert error.hint


def test_nothing_happens_before_the_first_question() -> None:
    engine = DockerEngine({"DOCKER_HOST": "tcp://192.0.2.1:2375"})  # nobody is there (RFC 5737)
    assert engine.address == "tcp://192.0.2.1:2375"
