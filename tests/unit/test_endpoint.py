"""Which engine is meant."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from envlock.adapters.engine.endpoint import DEFAULT_SOCKET, find_endpoint
from envlock.adapters.engine.transport import command_for
from envlock.errors import UsageError


def make_context(folder: Path, name: str, host: str, *, certificates: bool = False, skip: bool = False) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / digest
    meta.mkdir(parents=True)
    docker = {"Host": host, "SkipTLSVerify": skip}
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": docker}}))
    if certificates:
        tls = folder / "contexts" / "tls" / digest / "docker"
        tls.mkdir(parents=True)
        for part in ("ca", "cert", "key"):
            (tls / f"{part}.pem").touch()


def test_default_is_the_local_socket(tmp_path: Path) -> None:
    assert find_endpoint({"DOCKER_CONFIG": str(tmp_path)}).host == DEFAULT_SOCKET
    assert find_endpoint({"HOME": str(tmp_path), "DOCKER_HOST": " "}).host == DEFAULT_SOCKET


def test_host_wins_over_context_over_configuration(tmp_path: Path) -> None:
    make_context(tmp_path, "one", "tcp://one.example.org:2375")
    make_context(tmp_path, "two", "ssh://me@two.example.org")
    (tmp_path / "config.json").write_text('{"currentContext": "one"}')
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    assert find_endpoint(environment).host == "tcp://one.example.org:2375"
    environment["DOCKER_CONTEXT"] = "two"
    assert find_endpoint(environment).host == "ssh://me@two.example.org"
    environment["DOCKER_CONTEXT"] = "default"
    assert find_endpoint(environment).host == DEFAULT_SOCKET
    environment["DOCKER_HOST"] = "three.example.org:2375"
    assert find_endpoint(environment).host == "tcp://three.example.org:2375"


def test_tls_from_the_environment(tmp_path: Path) -> None:
    for part in ("ca", "cert", "key"):
        (tmp_path / f"{part}.pem").touch()
    environment = {"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    found = find_endpoint(environment)
    assert (found.tls, found.verify, found.ca, found.key) == (True, True, tmp_path / "ca.pem", tmp_path / "key.pem")
    assert not find_endpoint({"DOCKER_HOST": "tcp://h:2375"}).tls
    assert not find_endpoint({**environment, "DOCKER_HOST": "unix:///x"}).tls


def test_tls_of_a_context(tmp_path: Path) -> None:
    make_context(tmp_path, "secure", "tcp://h:2376", certificates=True)
    make_context(tmp_path, "lax", "tcp://h:2376", certificates=True, skip=True)
    for name, verify in (("secure", True), ("lax", False)):
        found = find_endpoint({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": name})
        assert (found.tls, found.verify) == (True, verify)
        assert found.cert is not None


@pytest.mark.parametrize("host", ["foo://x", "tcp://", "ftp://h:1", "tcp://me:hunter22@h:1"])
def test_what_is_no_address_is_refused_without_showing_a_password(host: str) -> None:
    with pytest.raises(UsageError, match="DOCKER_HOST") as caught:
        find_endpoint({"DOCKER_HOST": host})
    assert caught.value.hint
    assert "hunter22" not in caught.value.message + caught.value.hint


def test_unknown_context_and_broken_configuration_are_refused(tmp_path: Path) -> None:
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    with pytest.raises(UsageError, match="'nope'"):
        find_endpoint({**environment, "DOCKER_CONTEXT": "nope"})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config\.json"):
        find_endpoint(environment)


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("ssh://host", ["-T", "--", "host"]),
        ("ssh://me@host:2222", ["-T", "-l", "me", "-p", "2222", "--", "host"]),
        ("ssh://-oProxyCommand=x", ["-T", "--", "-oproxycommand=x"]),  # a name, never an option
    ],
)
def test_ssh_arguments(url: str, arguments: list[str]) -> None:
    assert command_for(url) == [*arguments, "docker", "system", "dial-stdio"]


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("unix:///x", True),
        ("tcp://127.0.0.1:2375", True),
        ("tcp://localhost:2375", True),
        ("tcp://h.example.org:2375", False),
        ("ssh://localhost", True),
        ("ssh://me@h.example.org", False),
    ],
)
def test_whether_the_engine_shares_our_loopback(host: str, here: bool) -> None:
    assert find_endpoint({"DOCKER_HOST": host}).is_here is here
