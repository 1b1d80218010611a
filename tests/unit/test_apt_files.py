"""Fetching from apt repositories: the archive over HTTP, the gateway in front of it, the .debs of a lock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import requests

from envlock.adapters.apt_archive import HttpAptArchive
from envlock.adapters.deb_source import DebSource
from envlock.errors import AptError
from envlock.lock.apt_gateway import AptGateway
from envlock.model.lock import AptSource, Deb, Lock
from envlock.ports import GatewayRequest, GatewayResponse, Wanted
from tests.support import locks
from tests.support.debs import Archive, ArchiveServer, DebFile, make_deb, serve

TOOL = make_deb("tool", "1:1.0+b~1-1", files={"/usr/share/tool": b"x" * 300_000})


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with serve(archive=Archive(debs=[TOOL])) as server:
        yield server


def _read(answer: GatewayResponse) -> bytes:
    return b"".join(answer.body)


def test_files_and_missing_files(session: requests.Session, server: ArchiveServer) -> None:
    archive = HttpAptArchive(session)
    answer = archive.open(f"{server.uri('archive')}/{TOOL.path}", {})
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(TOOL.content)))
    assert _read(answer) == TOOL.content
    assert archive.open(f"{server.uri('archive')}/nothing", {}).status == 404
    part = archive.open(f"{server.uri('archive')}/{TOOL.path}", {"range": "bytes=100-"})
    assert (part.status, _read(part)) == (206, TOOL.content[100:])


def test_indexes_stay_packed(session: requests.Session, server: ArchiveServer) -> None:
    answer = HttpAptArchive(session).open(f"{server.uri('archive')}/dists/stable/main/binary-amd64/Packages.gz", {})
    assert _read(answer)[:2] == b"\x1f\x8b"


def test_a_mirror_stands_in(session: requests.Session, server: ArchiveServer) -> None:
    mirrors = {
        "https://deb.example.org/": "http://127.0.0.1:9/",
        "https://deb.example.org/debian": server.uri("archive"),
    }
    archive = HttpAptArchive(session, mirrors=mirrors, retries=0)
    assert archive.open(f"https://deb.example.org/debian/{TOOL.path}", {}).status == 200
    with pytest.raises(AptError, match=r"^http://127\.0\.0\.1:9/debian-security/x cannot be reached"):
        archive.open("https://deb.example.org/debian-security/x", {})


def test_a_broken_connection_is_taken_up_again(session: requests.Session, server: ArchiveServer) -> None:
    archive = HttpAptArchive(session)
    server.dropped[".deb"] = 3
    assert _read(archive.open(f"{server.uri('archive')}/{TOOL.path}", {})) == TOOL.content
    server.dropped[".deb"] = 4
    with pytest.raises(AptError, match="the connection broke before the file was complete"):
        _read(archive.open(f"{server.uri('archive')}/{TOOL.path}", {}))


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "refuses us"), (403, "refuses us"), (500, "the server failed"), (503, "the server failed")],
)
def test_refusals_and_failures(session: requests.Session, server: ArchiveServer, status: int, words: str) -> None:
    server.statuses[".deb"] = status
    archive = HttpAptArchive(session, retries=1)
    with pytest.raises(AptError, match=rf"{words} \(HTTP {status}\)") as raised:
        archive.open(f"{server.uri('archive')}/{TOOL.path}".replace("//", "//me:secret@"), {})
    assert "secret" not in str(raised.value)
    assert raised.value.hint


def test_nonsense_addresses(session: requests.Session) -> None:
    for url in ("ftp://example.org/x", "http://"):
        with pytest.raises(AptError, match="is not an address"):
            HttpAptArchive(session, retries=0).open(url, {})


# --- the gateway ------------------------------------------------------------------------------------------------------


class Fake:
    """An archive that remembers what it was asked."""

    def __init__(self, answer: GatewayResponse | AptError) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []

    def open(self, url: str, headers: Mapping[str, str]) -> GatewayResponse:
        self.asked.append((url, dict(headers)))
        if isinstance(self.answer, AptError):
            raise self.answer
        return self.answer


def _get(path: str, method: str = "GET", **headers: str) -> GatewayRequest:
    return GatewayRequest(method=method, path=path, headers={name.replace("_", "-"): v for name, v in headers.items()})


def test_the_gateway_passes_on_what_matters() -> None:
    archive = Fake(
        GatewayResponse(headers={"Content-Length": "2", "Set-Cookie": "a=b", "Last-Modified": "x"}, body=[b"ok"])
    )
    gateway = AptGateway(archive)
    assert gateway.route("https://a.example.org/debian/") == "http://127.0.0.1:8629/apt/0"
    assert gateway.route("https://b.example.org/cuda") == "http://127.0.0.1:8629/apt/1"
    answer = gateway(_get("/apt/1/pool/a%2bb.deb", range="bytes=5-", cookie="c", user_agent="apt"))
    assert archive.asked == [("https://b.example.org/cuda/pool/a%2bb.deb", {"range": "bytes=5-"})]
    assert answer.headers == {"Content-Length": "2", "Last-Modified": "x"}
    assert _read(answer) == b"ok"


@pytest.mark.parametrize(
    "path",
    [
        "/apt/1/x",
        "/apt/-1/x",
        "/apt/0",
        "/simple/x",
        "/apt/0/../x",
        "/apt/0/a/%2e%2E/x",
        "/apt/0/a%2f..%2Fb",
        "/apt/0/a b",
        "/apt/99999/x",
    ],
)
def test_nothing_else_is_reachable(path: str) -> None:
    archive = Fake(GatewayResponse())
    gateway = AptGateway(archive)
    gateway.route("https://a.example.org/debian")
    assert gateway(_get(path)).status == 404
    assert gateway(_get("/apt/0/x", method="POST")).status == 405
    assert archive.asked == []


def test_failures_are_remembered_and_messages_readable() -> None:
    error = AptError("no network")
    gateway = AptGateway(Fake(error))
    gateway.route("https://me:secret@a.example.org/debian")
    assert gateway(_get("/apt/0/x")).status == 502
    assert gateway.failures == [error]
    text = "Failed to fetch http://127.0.0.1:8629/apt/0/dists/x and http://127.0.0.1:8629/apt/7/y"
    assert (
        gateway.readable(text)
        == "Failed to fetch https://a.example.org/debian/dists/x and http://127.0.0.1:8629/apt/7/y"
    )


# --- the .debs of a lock ----------------------------------------------------------------------------------------------


def _lock(server: ArchiveServer, *debs: DebFile, uri: bool = False, **inputs: str) -> Lock:
    lock = locks.make_lock()
    return replace(
        lock,
        apt_sources=(
            AptSource(name="stable", suite="stable", components=("main",), uri=server.uri("archive") if uri else None),
        ),
        debs=tuple(_deb(deb) for deb in debs),
        inputs=replace(lock.inputs, **{"as_of": None, "apt_snapshot": None, **inputs}),
    )


def _deb(deb: DebFile) -> Deb:
    return Deb(
        name=deb.name,
        version=deb.version,
        architecture="amd64",
        source="stable",
        path=deb.path,
        sha256=deb.sha256,
        size=len(deb.content),
    )


def _content(wanted: Wanted) -> bytes:
    with wanted.open() as body:
        return b"".join(body)


def test_debs_come_from_the_bases_repository(session: requests.Session, server: ArchiveServer) -> None:
    asked = []

    def base_files() -> dict[str, bytes]:
        asked.append(1)
        return {"sources.list": f"deb {server.uri('archive')}/ stable main\n".encode()}

    source = DebSource(_lock(server, TOOL), archive=HttpAptArchive(session), base_files=base_files)
    (wanted,) = source.wanted()
    assert (wanted.title, wanted.sha256, wanted.size) == (TOOL.path.rpartition("/")[2], TOOL.sha256, len(TOOL.content))
    assert asked == [], "nothing is asked before something is missing"
    assert _content(wanted) == TOOL.content
    assert _content(wanted) == TOOL.content
    assert asked == [1]


def test_debs_of_a_declared_repository_need_no_base(session: requests.Session, server: ArchiveServer) -> None:
    def base_files() -> dict[str, bytes]:
        raise AssertionError("nobody has to look into the base")

    (wanted,) = DebSource(
        _lock(server, TOOL, uri=True), archive=HttpAptArchive(session), base_files=base_files
    ).wanted()
    assert _content(wanted) == TOOL.content


def test_a_version_that_vanished(session: requests.Session, server: ArchiveServer) -> None:
    gone = make_deb("gone", "1.0")
    (wanted,) = DebSource(_lock(server, gone, uri=True), archive=HttpAptArchive(session), base_files=dict).wanted()
    with pytest.raises(AptError, match=r"^gone 1\.0 is no longer in the apt repository stable$") as raised:
        _content(wanted)
    assert "--upgrade-package gone" in raised.value.hint
    assert raised.value.details == (f"{server.uri('archive')}/{gone.path}: HTTP 404",)


def test_a_base_without_the_repository(session: requests.Session, server: ArchiveServer) -> None:
    source = DebSource(_lock(server, TOOL), archive=HttpAptArchive(session), base_files=dict)
    with pytest.raises(AptError, match="has no apt repository stable, which tool came from"):
        _content(source.wanted()[0])


@pytest.mark.parametrize("template", ["{url}/{{timestamp}}", None], ids=["of the lock", "of the archive"])
def test_a_lock_of_a_date_finds_its_snapshot(
    session: requests.Session, server: ArchiveServer, template: str | None
) -> None:
    old = make_deb("old", "1.0")
    with serve(**{"20260131T000000Z": Archive(debs=[old])}) as service:
        inputs = {"as_of": "2026-01-31"}
        if template is None:
            server.archives["archive"].snapshots = f"{service.url}/@SNAPSHOTID@/"
        else:
            inputs["apt_snapshot"] = template.format(url=service.url)
        lock = _lock(server, old, **inputs)
        base = {"sources.list": f"deb {server.uri('archive')} stable main\n".encode()}
        (wanted,) = DebSource(lock, archive=HttpAptArchive(session), base_files=lambda: base).wanted()
        assert _content(wanted) == old.content
