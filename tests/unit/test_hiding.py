from __future__ import annotations

import pytest

from envlock.formats.display import one_line, short, two_lines
from envlock.formats.secrets import hide, is_secret
from envlock.formats.urls import scrub, without_credentials


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://anna:hunter2@example.org/x?a=b", "https://example.org/x?a=b"),
        ("https://token@example.org", "https://example.org"),
        ("postgresql+psycopg2://u:p@ss@db.example.org/mlflow", "postgresql+psycopg2://db.example.org/mlflow"),
        ("mysql://db.example.org/x?password=hunter2&ssl=1", "mysql://db.example.org/x?password=&ssl=1"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("mail anna@example.org", "mail anna@example.org"),
    ],
)
def test_urls_lose_their_credentials_and_nothing_else(url: str, expected: str) -> None:
    assert without_credentials(url) == expected


def test_known_secrets_are_taken_out_of_a_text() -> None:
    assert scrub("refused for hunter2 at http://a:b@example.org", secrets=["hunter2", "", "at"]) == (
        "refused for *** at http://example.org"
    )


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "OPENAI_API_KEY", "token"]
)
def test_names_that_hold_passwords(name: str) -> None:
    assert is_secret(name)
    assert hide({name: "x"}) == {name: "(hidden)"}


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "PATH", "PYTHONHASHSEED", "KEYBOARD", "CUBLAS_WORKSPACE_CONFIG"]
)
def test_names_that_do_not(name: str) -> None:
    assert not is_secret(name)


def test_values_on_one_line() -> None:
    assert one_line("a\x1b[31m\nb\u202ec") == "a [31m b c"
    assert one_line("x" * 100, longest=10) == "x" * 9 + "…"
    assert short("sha256:" + "a" * 64) == "sha256:aaaaaaaaaaaa…"
    assert short("a" * 40) == "aaaaaaaaaaaa…"
    assert short("2.0.1") == "2.0.1"
    before, after = two_lines("/x" * 50 + "/a", "/x" * 50 + "/b")
    assert before.endswith("/a")
    assert after.endswith("/b")
