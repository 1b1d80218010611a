"""The registry's adapter, against a registry that behaves and one that does not."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from envlock.adapters.registry import HttpRegistry
from envlock.errors import EnvlockError, InputError, RegistryError, UnknownImage
from tests.support.registry_server import OCI_INDEX, OCI_MANIFEST, FakeRegistry, digest_of, fake_registry


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def registry(tmp_path: Path, pauses: list[float]) -> HttpRegistry:
    return HttpRegistry({"DOCKER_CONFIG": str(tmp_path)}, pause=pauses.append)


def log_in(folder: Path, host: str, entry: dict[str, str]) -> None:
    (folder / "config.json").write_text(json.dumps({"auths": {host: entry}}))


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def index_of(server: FakeRegistry, path: str, tag: str, *images: dict) -> dict:
    return server.manifest(path, {"schemaVersion": 2, "manifests": list(images)}, media_type=OCI_INDEX, tag=tag)


def test_single_image(server: FakeRegistry, registry: HttpRegistry) -> None:
    expected = server.image("team/app", tag="1")
    found = registry.manifest(f"{server.host}/team/app:1", platform="linux/amd64")
    assert found.repository == f"{server.host}/team/app"
    assert (found.index_digest, found.digest) == (None, expected["digest"])
    assert found.diff_ids == (digest_of(b"0"), digest_of(b"1"))
    assert [layer.size for layer in found.layers] == [7, 7]
    assert found.env == {"PATH": "/bin", "A": "b=c"}
    assert registry.manifest(f"{server.host}/team/app:gone@{found.digest}", platform="linux/amd64") == found


def test_index_gives_the_platforms_image(server: FakeRegistry, registry: HttpRegistry) -> None:
    attestation = {**server.image("app"), "platform": {"os": "unknown", "architecture": "unknown"}}
    amd64, arm64 = server.image("app"), server.image("app", architecture="arm64", variant="v8")
    index = index_of(server, "app", "1", attestation, amd64, arm64)
    for platform, expected in (("linux/amd64", amd64), ("linux/arm64", arm64), ("linux/arm64/v8", arm64)):
        found = registry.manifest(f"{server.host}/app:1", platform=platform)
        assert (found.index_digest, found.digest) == (index["digest"], expected["digest"])


def test_index_with_variants(server: FakeRegistry, registry: HttpRegistry) -> None:
    v5, v7 = (server.image("app", architecture="arm", variant=variant) for variant in ("v5", "v7"))
    v3 = server.image("app", variant="v3", layers=3)
    plain = server.image("app")
    index_of(server, "app", "1", v3, v5, v7, plain)
    chosen = {
        platform: registry.manifest(f"{server.host}/app:1", platform=platform).digest
        for platform in ("linux/arm/v7", "linux/arm/v6", "linux/arm", "linux/amd64", "linux/amd64/v4")
    }
    assert chosen == {
        "linux/arm/v7": v7["digest"],
        "linux/arm/v6": v5["digest"],  # what is older runs, too
        "linux/arm": v7["digest"],
        "linux/amd64": plain["digest"],  # and never what needs a newer processor
        "linux/amd64/v4": v3["digest"],
    }


def test_platform_that_there_is_not(server: FakeRegistry, registry: HttpRegistry) -> None:
    index_of(server, "app", "1", server.image("app"), server.image("app", architecture="arm", variant="v7"))
    with pytest.raises(InputError) as caught:
        registry.manifest(f"{server.host}/app:1", platform="linux/s390x")
    assert caught.value.hint == "it exists for linux/amd64, linux/arm"
    server.image("single", tag="1", architecture="arm64")
    with pytest.raises(InputError, match="is for linux/arm64, not for linux/amd64"):
        registry.manifest(f"{server.host}/single:1", platform="linux/amd64")


def test_unknown_tag(server: FakeRegistry, registry: HttpRegistry, pauses: list[float]) -> None:
    with pytest.raises(UnknownImage, match="has no nope of app"):
        registry.manifest(f"{server.host}/app:nope", platform="linux/amd64")
    assert pauses == []


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_wrong_bytes_are_never_taken(server: FakeRegistry, registry: HttpRegistry, kind: str) -> None:
    server.image("app", tag="1")
    for path, (media, content) in list(server.content.items()):
        if f"/{kind}/" in path:
            server.content[path] = (media, content.replace(b"linux", b"Linux").replace(b"schemaV", b"schemav"))
    if kind == "manifests":
        server.misbehave = lambda request: (
            200,
            {"Docker-Content-Digest": digest_of(b"another")},
            server.content[request.path][1],
        )
    with pytest.raises(RegistryError, match=r"sent wrong bytes for app: expected sha256:\w+, found sha256:\w+"):
        registry.manifest(f"{server.host}/app:1", platform="linux/amd64")


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_passing_trouble_is_waited_out(
    server: FakeRegistry, registry: HttpRegistry, pauses: list[float], status: int
) -> None:
    server.image("app", tag="1")
    left = [2]

    def misbehave(_: object):
        left[0] -= 1
        return (status, {"Retry-After": "7"} if status == 429 else {}, b"") if left[0] >= 0 else None

    server.misbehave = misbehave
    assert registry.manifest(f"{server.host}/app:1", platform="linux/amd64").digest
    assert pauses == ([7.0, 7.0] if status == 429 else [0.5, 1.0])


@pytest.mark.parametrize(
    ("status", "message"), [(429, "answered 429"), (500, "answered 500"), (0, "cannot be reached")]
)
def test_lasting_trouble_is_an_error(
    server: FakeRegistry, registry: HttpRegistry, pauses: list[float], status: int, message: str
) -> None:
    server.misbehave = lambda _: (status, {}, b"")
    with pytest.raises(RegistryError, match=message) as caught:
        registry.manifest(f"{server.host}/app:1", platform="linux/amd64")
    assert caught.value.hint
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_answer_that_breaks_off_is_no_answer(server: FakeRegistry, registry: HttpRegistry) -> None:
    server.image("app", tag="1")
    server.misbehave = lambda _: (200, {"Content-Length": "5000"}, b"{")
    with pytest.raises(RegistryError, match="cannot be reached"):
        registry.manifest(f"{server.host}/app:1", platform="linux/amd64")


def test_answer_without_an_end_is_cut_off(server: FakeRegistry, registry: HttpRegistry) -> None:
    server.misbehave = lambda _: (200, {}, b" " * (5 << 20))
    with pytest.raises(RegistryError, match="bytes of metadata"):
        registry.manifest(f"{server.host}/app:1", platform="linux/amd64")


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"schemaVersion":1}',
        b'{"mediaType":"%s"}' % OCI_MANIFEST.encode(),
        b'{"mediaType":"%s","config":{},"layers":[]}' % OCI_MANIFEST.encode(),
        b'{"mediaType":"%s","config":{"mediaType":"x","digest":"sha256:../../x","size":1},"layers":[]}'
        % OCI_MANIFEST.encode(),
        b'{"mediaType":"%s","manifests":{}}' % OCI_INDEX.encode(),
    ],
)
def test_nonsense_is_said_to_be(server: FakeRegistry, registry: HttpRegistry, data: bytes) -> None:
    server.content["/v2/app/manifests/1"] = ("text/plain", data)
    with pytest.raises(RegistryError):
        registry.manifest(f"{server.host}/app:1", platform="linux/amd64")


def test_nobody_there(registry: HttpRegistry, server: FakeRegistry, pauses: list[float]) -> None:
    with fake_registry() as gone:
        host = gone.host
    with pytest.raises(RegistryError, match=f"{host} cannot be reached"):
        registry.manifest(f"{host}/app:1", platform="linux/amd64")
    assert pauses == []


# --- logging in -------------------------------------------------------------------------------------------------------


def needs_token(server: FakeRegistry, expected: dict[str, str | None], *, token: str = "t0ken") -> None:
    """Have the registry ask for a token, which its own /token gives to whom ``expected`` says."""

    def misbehave(request):
        if request.path.startswith("/token"):
            query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
            assert query.items() >= {"service": "the registry", "scope": "repository:team/app:pull"}.items()
            if request.headers.get("Authorization") != expected["authorization"]:
                return 401, {}, b""
            return 200, {}, json.dumps({"token": token}).encode()
        if request.headers.get("Authorization") != f"Bearer {token}":
            challenge = (
                f'Bearer realm="http://{server.host}/token",service="the registry",scope="repository:team/app:pull"'
            )
            return 401, {"WWW-Authenticate": challenge}, b""
        return None

    server.misbehave = misbehave


def test_anonymous_token(server: FakeRegistry, registry: HttpRegistry) -> None:
    server.image("team/app", tag="1")
    needs_token(server, {"authorization": None})
    assert registry.manifest(f"{server.host}/team/app:1", platform="linux/amd64")
    assert sum(path.startswith("/token") for path, _ in server.asked) == 1  # one token serves all requests


def test_token_for_a_user(server: FakeRegistry, registry: HttpRegistry, tmp_path: Path) -> None:
    server.image("team/app", tag="1")
    log_in(tmp_path, server.host, {"auth": basic("me", "hunter22")})
    needs_token(server, {"authorization": f"Basic {basic('me', 'hunter22')}"})
    assert registry.manifest(f"{server.host}/team/app:1", platform="linux/amd64")


def test_password_from_a_credential_helper(
    server: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.image("team/app", tag="1")
    helper = tmp_path / "docker-credential-testing"
    helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username":"me","Secret":"hunter22"}\'\n')
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {server.host: "testing"}}))
    needs_token(server, {"authorization": f"Basic {basic('me', 'hunter22')}"})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    environment = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert HttpRegistry(environment).manifest(f"{server.host}/team/app:1", platform="linux/amd64")


def test_missing_credential_helper(server: FakeRegistry, registry: HttpRegistry, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "there-is-none"}))
    needs_token(server, {"authorization": None})
    with pytest.raises(RegistryError, match="credentials for") as caught:
        registry.manifest(f"{server.host}/team/app:1", platform="linux/amd64")
    assert "helper" in caught.value.hint


def test_identity_token(server: FakeRegistry, registry: HttpRegistry, tmp_path: Path) -> None:
    server.image("team/app", tag="1")
    log_in(tmp_path, server.host, {"auth": "", "identitytoken": "refresh-me"})

    def misbehave(request):
        if request.command == "POST":
            assert "refresh_token=refresh-me" in server.asked[-1][1]["body"]
            return 200, {}, b'{"access_token":"fresh"}'
        if request.headers.get("Authorization") != "Bearer fresh":
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token",service="x"'}, b""
        return None

    server.misbehave = misbehave
    assert registry.manifest(f"{server.host}/team/app:1", platform="linux/amd64")


def test_basic_authentication(server: FakeRegistry, registry: HttpRegistry, tmp_path: Path) -> None:
    server.image("team/app", tag="1")
    log_in(tmp_path, server.host, {"auth": basic("me", "hunter22")})
    wanted = f"Basic {basic('me', 'hunter22')}"
    server.misbehave = lambda request: (
        None if request.headers.get("Authorization") == wanted else (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    )
    assert registry.manifest(f"{server.host}/team/app:1", platform="linux/amd64")


@pytest.mark.parametrize(
    "answer",
    [
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b""),
        (401, {}, b""),
        (403, {}, b""),
        (401, {"WWW-Authenticate": 'Bearer realm="http://example.org/token"'}, b""),
    ],
    ids=["basic", "without a way", "forbidden", "token without TLS"],
)
def test_refusal_says_what_to_do_and_shows_no_password(
    server: FakeRegistry, registry: HttpRegistry, tmp_path: Path, answer: tuple
) -> None:
    log_in(tmp_path, server.host, {"auth": basic("me", "hunter22")})
    server.misbehave = lambda _: answer
    with pytest.raises(RegistryError) as caught:
        registry.manifest(f"{server.host}/team/app:1", platform="linux/amd64")
    assert caught.value.hint
    assert shown(caught.value).isdisjoint({"hunter22", basic("me", "hunter22")})


def test_refused_login(server: FakeRegistry, registry: HttpRegistry, tmp_path: Path) -> None:
    log_in(tmp_path, server.host, {"auth": basic("me", "wrong-one")})
    needs_token(server, {"authorization": f"Basic {basic('me', 'hunter22')}"})
    with pytest.raises(RegistryError, match="does not accept our login") as caught:
        registry.manifest(f"{server.host}/team/app:1", platform="linux/amd64")
    assert "docker login" in caught.value.hint
    assert "wrong-one" not in " ".join(shown(caught.value))


def test_netrc_is_not_for_registries(
    server: FakeRegistry, registry: HttpRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter22\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.image("app", tag="1")
    registry.manifest(f"{server.host}/app:1", platform="linux/amd64")
    assert all("authorization" not in headers for _, headers in server.asked)


def shown(error: EnvlockError) -> set[str]:
    return set(" ".join([error.message, error.hint, *error.details]).split())


# --- mirrors ----------------------------------------------------------------------------------------------------------


def test_mirror_is_asked_first_and_gets_no_password(server: FakeRegistry, tmp_path: Path) -> None:
    expected = server.image("library/python", tag="3.11")
    log_in(tmp_path, "https://index.docker.io/v1/", {"auth": basic("me", "hunter22")})
    registry = HttpRegistry({"DOCKER_CONFIG": str(tmp_path)}, mirrors=lambda: [f"http://{server.host}/"])
    found = registry.manifest("python:3.11", platform="linux/amd64")
    assert (found.repository, found.digest) == ("python", expected["digest"])
    assert all("authorization" not in headers for _, headers in server.asked)


def test_next_mirror_where_the_first_fails(server: FakeRegistry, registry: HttpRegistry, tmp_path: Path) -> None:
    server.image("library/python", tag="3.11")
    with fake_registry() as empty, fake_registry() as broken:
        broken.misbehave = lambda _: (500, {}, b"")
        urls = [f"http://{each.host}" for each in (empty, broken, server)]
        registry = HttpRegistry({"DOCKER_CONFIG": str(tmp_path)}, mirrors=lambda: urls)
        assert registry.manifest("python:3.11", platform="linux/amd64")
        assert empty.asked
        assert broken.asked


def test_mirrors_are_for_the_default_registry_only(server: FakeRegistry, tmp_path: Path) -> None:
    server.image("app", tag="1")
    registry = HttpRegistry({"DOCKER_CONFIG": str(tmp_path)}, mirrors=lambda: pytest.fail("asked for mirrors"))
    assert registry.manifest(f"{server.host}/app:1", platform="linux/amd64")
