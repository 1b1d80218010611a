"""Image references, held against what Docker's own grammar says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envlock.errors import InputError
from envlock.formats.reference import Reference, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "path", "tag", "digest", "name"),
    [
        ("python", "docker.io", "library/python", None, None, "python"),
        ("python:3.11-slim", "docker.io", "library/python", "3.11-slim", None, "python"),
        ("docker.io/python", "docker.io", "library/python", None, None, "python"),
        ("index.docker.io/library/python", "docker.io", "library/python", None, None, "python"),
        ("team/app", "docker.io", "team/app", None, None, "team/app"),
        ("localhost/app:1", "localhost", "app", "1", None, "localhost/app"),
        (
            "127.0.0.1:5000/envlock/base:py3.11",
            "127.0.0.1:5000",
            "envlock/base",
            "py3.11",
            None,
            "127.0.0.1:5000/envlock/base",
        ),
        ("[::1]:5000/a", "[::1]:5000", "a", None, None, "[::1]:5000/a"),
        ("reg.example.org/a/b/c@" + DIGEST, "reg.example.org", "a/b/c", None, DIGEST, "reg.example.org/a/b/c"),
        ("a:1@" + DIGEST, "docker.io", "library/a", "1", DIGEST, "a"),
        ("host:5000", "docker.io", "library/host", "5000", None, "host"),
        ("Upper/app", "Upper", "app", None, None, "Upper/app"),
        ("docker.io/library/a.b/c", "docker.io", "library/a.b/c", None, None, "library/a.b/c"),
        ("docker.io/a.b/c", "docker.io", "a.b/c", None, None, "docker.io/a.b/c"),
    ],
)
def test_parts(text: str, registry: str, path: str, tag: str | None, digest: str | None, name: str) -> None:  # noqa: PLR0917
    reference = parse_reference(text)
    assert reference == Reference(registry=registry, path=path, tag=tag, digest=digest)
    assert reference.name == name
    assert reference.repository == f"{registry}/{path}"
    assert reference.target == (digest or tag or "latest")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "a:",
        "a@",
        "A",
        "a b",
        "a\n",
        "a:b\n",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a-",
        "a___b",
        "a:-x",
        "a:" + "x" * 129,
        "a@sha256:12",
        "a@md5:" + "0" * 32,
        "a@" + DIGEST.upper(),
        "http://h/a",
        "h:port/a",
        "ho_st.x/a",
        "a;b",
        "$(a)",
        "x" * 300,
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_reference(text)
    assert caught.value.hint


component = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,3})[a-z0-9]+){0,2}", fullmatch=True).filter(
    lambda text: len(text) < 30
)
registries = st.one_of(
    st.just("docker.io"),
    st.from_regex(r"[a-z0-9]{1,8}(\.[a-z]{2,5}){1,2}(:[0-9]{2,5})?", fullmatch=True).filter(
        lambda text: text not in ("docker.io", "index.docker.io")
    ),
)


@given(
    registry=registries,
    path=st.lists(component, min_size=1, max_size=4).map("/".join),
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True),
    digest=st.none() | st.just(DIGEST),
)
def test_what_is_written_is_read_again(registry: str, path: str, tag: str | None, digest: str | None) -> None:
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    reference = Reference(registry=registry, path=path, tag=tag, digest=digest)
    assert parse_reference(str(reference)) == reference
    assert parse_reference(f"{reference.name}:{reference.tag or 'latest'}").repository == reference.repository


@given(st.text(max_size=60))
def test_anything_else_is_read_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InputError:
        return
    assert parse_reference(str(reference)) == reference
    assert all(sign not in str(reference) for sign in " \n\t;$`'\"\\")
