"""What a command does not need, it does not import: importing everything takes longer than most commands do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envlock import __version__
from envlock.formats.lock_json import dump_lock
from tests.support.locks import make_lock

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("docker", "jinja2", "mlflow", "piptools", "requests", "rich", "envlock.lock", "envlock.adapters.mlflow_store")
RUN = """
import sys
from envlock.__main__ import main
try:
    main()
finally:
    print("imported:", *(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""


def run(folder: Path, *argv: str, heavy: tuple[str, ...] = HEAVY) -> tuple[int, str, str]:
    """Return the exit code, stdout, and which of the heavy modules were imported."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(heavy=heavy), *argv],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder), "DOCKER_HOST": f"unix://{folder}/no.sock"},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()[-1].removeprefix("imported:").strip()


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    (tmp_path / "envlock.lock").write_text(dump_lock(make_lock()))
    return tmp_path


def test_the_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version", heavy=(*HEAVY, "envlock.formats")) == (0, f"{__version__}\n", "")


def test_a_lock_is_shown_from_its_file(locked: Path) -> None:
    code, out, imported = run(locked, "show", "envlock.lock")
    assert (code, imported) == (0, "")
    assert out.startswith("lock envlock.lock\n")


def test_a_dockerfile_needs_only_the_templates(locked: Path) -> None:
    code, out, imported = run(locked, "dockerfile")
    assert (code, imported) == (0, "jinja2")
    assert "FROM " in out


def test_looking_at_a_lock_needs_no_resolver(locked: Path) -> None:
    (locked / "envlock.yaml").write_text('name: demo\nbase: example.org/base:py3.11\npython: "3.11"\n')
    code, out, imported = run(locked, "lock", "--check")
    assert (code, imported) == (1, "")
    assert "does not answer the spec" in out


def test_building_needs_an_engine_and_not_what_resolves_renders_and_records(locked: Path) -> None:
    code, _, imported = run(locked, "build", "--no-record")
    assert (code, imported) == (3, "docker requests")


def test_help_lists_every_command(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, "--help")
    assert code == 0
    assert all(word in out for word in ("init ", "lock ", "dockerfile ", "export ", "build ", "show ", "diff "))


def test_a_command_that_is_misspelt(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "envlock", "bild"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert "Did you mean 'build'?" in done.stderr
