"""What is taken from pip's configuration, and what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envlock.adapters.pip_configuration import default_index_url, read_pip_settings
from envlock.errors import InputError


def read(tmp_path: Path, environ: dict[str, str] | None = None, **files: str):
    places = {
        "system": tmp_path / "etc/pip.conf",
        "legacy": tmp_path / "home/.pip/pip.conf",
        "user": tmp_path / "home/.config/pip/pip.conf",
        "prefix": tmp_path / "venv/pip.conf",
        "named": tmp_path / "named.conf",
    }
    for name, text in files.items():
        places[name].parent.mkdir(parents=True, exist_ok=True)
        places[name].write_text(text)
    return read_pip_settings(environ or {}, home=tmp_path / "home", prefix=tmp_path / "venv", system=tmp_path / "etc")


def test_without_any_configuration_it_is_pips_own_default(tmp_path):
    settings = read(tmp_path)
    assert settings.index_url == default_index_url()
    assert (settings.ca_bundle, settings.proxy, settings.timeout, settings.trusted_hosts) == (None, None, 15.0, ())


def test_later_files_win_and_the_environment_wins_over_all(tmp_path):
    conf = "[global]\nindex-url = https://{0}.example.org/simple\n".format
    everything = {"system": conf("system"), "legacy": conf("legacy"), "user": conf("user"), "prefix": conf("prefix")}
    for count, expected in enumerate(["system", "legacy", "user", "prefix"], 1):
        found = read(tmp_path / str(count), **dict(list(everything.items())[:count]))
        assert found.index_url == f"https://{expected}.example.org/simple"
    environ = {"PIP_CONFIG_FILE": str(tmp_path / "named.conf")}
    assert read(tmp_path, environ, **everything, named=conf("named")).index_url == "https://named.example.org/simple"
    environ["PIP_INDEX_URL"] = "https://env.example.org/simple"
    assert read(tmp_path, environ).index_url == "https://env.example.org/simple"


def test_install_wins_over_global_and_underscores_are_dashes(tmp_path):
    user = "[install]\nindex_url = https://b.example.org\n[global]\nindex-url = https://a.example.org\n"
    assert read(tmp_path, user=user).index_url == "https://b.example.org"


def test_what_would_change_results_is_left_alone(tmp_path):
    user = "[global]\nextra-index-url = https://evil.example.org\nfind-links = /srv/wheels\npre = true\n"
    environ = {"PIP_EXTRA_INDEX_URL": "https://evil.example.org", "PIP_FIND_LINKS": "/srv/wheels", "PIP_PRE": "1"}
    assert read(tmp_path, environ, user=user) == read(tmp_path / "other")


def test_a_config_file_of_dev_null_turns_all_files_off(tmp_path):
    found = read(tmp_path, {"PIP_CONFIG_FILE": "/dev/null"}, user="[global]\nindex-url = https://a.example.org\n")
    assert found.index_url == default_index_url()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PIP_CERT": "/a", "REQUESTS_CA_BUNDLE": "/b", "SSL_CERT_FILE": "/c"}, "/a"),
        ({"REQUESTS_CA_BUNDLE": "/b", "SSL_CERT_FILE": "/c"}, "/b"),
        ({"SSL_CERT_FILE": "/c"}, "/c"),
        ({}, None),
    ],
)
def test_the_certificates_of_the_company(tmp_path, environ, expected):
    assert read(tmp_path, environ).ca_bundle == expected


def test_how_to_reach_it(tmp_path):
    user = "[global]\nproxy = http://proxy.example.org:3128\ntrusted-host =\n  a.example.org\n  b.example.org:8080\n"
    found = read(tmp_path, {"PIP_DEFAULT_TIMEOUT": "180", "PIP_CLIENT_CERT": "/k"}, user=user)
    assert found.proxy == "http://proxy.example.org:3128"
    assert found.trusted_hosts == ("a.example.org", "b.example.org:8080")
    assert (found.timeout, found.client_cert) == (180.0, "/k")


@pytest.mark.parametrize("timeout", ["soon", "-1", "0", "nan"])
def test_a_timeout_that_is_no_number_of_seconds(tmp_path, timeout):
    with pytest.raises(InputError, match="timeout"):
        read(tmp_path, {"PIP_TIMEOUT": timeout})


def test_a_broken_file_is_named_and_its_secrets_are_not(tmp_path):
    with pytest.raises(InputError) as caught:
        read(tmp_path, user="index-url = https://me:s3cret@example.org/\n")
    assert str(tmp_path) in caught.value.message
    assert "s3cret" not in caught.value.message + caught.value.hint


def test_credentials_are_in_no_representation(tmp_path):
    found = read(tmp_path, {"PIP_INDEX_URL": "https://me:s3cret@example.org/"})
    assert "s3cret" in found.index_url
    assert "s3cret" not in repr(found)


def test_pip_itself_reads_the_same_index(tmp_path):
    """The order is pip's: hold it against pip."""
    for folder in (".pip", ".config/pip"):
        (tmp_path / "home" / folder).mkdir(parents=True)
        (tmp_path / "home" / folder / "pip.conf").write_text(
            f"[global]\nindex-url = https://{folder[1:3]}.example.org\n"
        )
    environ = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = read_pip_settings(environ, home=tmp_path / "home", prefix=Path(sys.prefix))
    assert found.index_url == done.stdout.strip()
