"""Interpreters of this machine that compile for a base."""

from __future__ import annotations

from pathlib import Path

import pytest

from envlock.adapters.bases import interpreters
from envlock.adapters.bases.interpreters import LocalInterpreters
from envlock.layers.target import Target


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give what was asked for its version: everything says 3.2.98."""
    found: list[str] = []
    monkeypatch.setattr(interpreters, "interpreter_version", lambda path: found.append(path) or "3.2.98")
    return found


def program(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent))
    return str(path)


def find(tmp_path: Path, version: str, *, scripts: bool = False) -> str | None:
    return LocalInterpreters(tmp_path / "known", scripts=scripts).find(Target(python=version))


def test_an_interpreter_of_this_machine_is_asked_once(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "bin/python3", b"\x7fELF", monkeypatch)
    assert find(tmp_path, "3.2.99") is find(tmp_path, "3.2.99") is None
    assert asked == [path]
    assert find(tmp_path, "3.2.98") == find(tmp_path, "3.2.98") == path
    assert asked == [path] * 3  # what would do is looked at each time
    program(tmp_path / "bin/python3", b"\x7fELF, another one", monkeypatch)
    assert find(tmp_path, "3.2.99") is None
    assert asked == [path] * 4
    (tmp_path / "known").write_text("[]")
    assert find(tmp_path, "3.2.99") is None
    assert asked == [path] * 5


def test_an_interpreter_that_says_nothing_is_asked_again(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "bin/python3", b"\x7fELF", monkeypatch)
    monkeypatch.setattr(interpreters, "interpreter_version", lambda path: asked.append(path) or "")
    assert find(tmp_path, "3.2.99") is find(tmp_path, "3.2.99") is None
    assert asked == [path] * 2


def test_a_script_is_asked_only_where_there_is_no_container(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "bin/python3", b"#!/bin/sh\n", monkeypatch)
    assert find(tmp_path, "3.2.98") is None
    assert asked == []
    assert find(tmp_path, "3.2.98", scripts=True) == path
    assert find(tmp_path, "3.2.99", scripts=True) is find(tmp_path, "3.2.99", scripts=True) is None
    assert asked == [path] * 3
