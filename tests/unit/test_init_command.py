from __future__ import annotations

import sys

import pytest
import typer
from typer.testing import CliRunner

from envlock.cli.boundary import Boundary
from envlock.cli.init import init
from envlock.formats.spec_yaml import parse_spec


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    app = typer.Typer(cls=Boundary)
    app.callback()(lambda: None)
    app.command()(init)

    def call(*arguments: str):
        return CliRunner().invoke(app, ["init", *arguments])

    return call


def test_the_first_source_there_is(run, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "requirements.in").write_text("numpy<3\n")
    done = run()
    assert (done.exit_code, done.stdout) == (0, "envlock.yaml\n")
    assert "starting from requirements.in; there is pyproject.toml as well" in done.stderr
    assert parse_spec((tmp_path / "envlock.yaml").read_text()).pip.requirements == ("requirements.in",)


def test_it_never_overwrites_without_force(run, tmp_path):
    (tmp_path / "envlock.yaml").write_text("mine\n")
    done = run()
    assert done.exit_code == 2
    assert "--force" in done.stderr
    assert (tmp_path / "envlock.yaml").read_text() == "mine\n"
    assert run("--force").exit_code == 0
    assert parse_spec((tmp_path / "envlock.yaml").read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from", "gone.txt"],
        ["--from", "."],
        ["--base", "a b"],
        ["--extra", "x"],
        ["--from-live", "--from", "x"],
        ["--from", "bad.toml"],
        ["--from", "latin.txt"],
    ],
)
def test_bad_input_leaves_nothing_behind(run, tmp_path, arguments):
    (tmp_path / "bad.toml").write_text("[x\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert "error: " in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml", "latin.txt"]


def test_nothing_to_start_from(run, tmp_path):
    done = run("--name", "demo", "--base", "envlock/base:py3.11")
    assert "found nothing to start from" in done.stderr
    spec = parse_spec((tmp_path / "envlock.yaml").read_text())
    assert (spec.name, spec.base, spec.python) == ("demo", "envlock/base:py3.11", "3.11")


def test_what_was_left_out_is_on_stderr_and_in_the_file(run, tmp_path):
    (tmp_path / "deps").mkdir()
    (tmp_path / "deps" / "r.txt").write_text("-e .\n-r more.txt\n")
    (tmp_path / "deps" / "more.txt").write_text("rich\n")
    done = run("--from", "deps/r.txt")
    assert "1 not carried over from deps/r.txt:\n  -e ." in done.stderr
    text = (tmp_path / "envlock.yaml").read_text()
    assert "# - -e .:" in text
    assert parse_spec(text).pip.packages == ("rich",)


def test_paths_are_relative_to_the_spec(run, tmp_path):
    (tmp_path / "r.txt").write_text("rich\n")
    (tmp_path / "sub").mkdir()
    assert run("--from", "r.txt", "--spec", "sub/envlock.yaml").exit_code == 0
    assert parse_spec((tmp_path / "sub" / "envlock.yaml").read_text()).pip.requirements == ("../r.txt",)


def test_from_live_of_this_interpreter(run, tmp_path):
    assert run("--from-live").exit_code == 0
    spec = parse_spec((tmp_path / "envlock.yaml").read_text())
    assert spec.python == ".".join(map(str, sys.version_info[:2]))
    assert any(line.startswith("pyyaml==") for line in spec.pip.packages)


def test_from_live_of_a_broken_environment(run, tmp_path, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "gone"))
    done = run("--from-live")
    assert done.exit_code == 2
    assert "there is no interpreter" in done.stderr
    python = tmp_path / "gone" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    python.chmod(0o755)
    done = run("--from-live")
    assert done.exit_code == 3
    assert "broken" in done.stderr
    assert not (tmp_path / "envlock.yaml").exists()
