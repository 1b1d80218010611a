from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from envlock.adapters.live import read_live
from envlock.errors import UsageError, WorldError


@pytest.fixture(scope="module")
def venv(tmp_path_factory) -> Path:
    """Make a virtual environment with a few hand-made installations."""
    folder = tmp_path_factory.mktemp("live") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for name, version, direct in (
        ("Some_Package", "1.0", None),
        ("local", "2.0", {"url": "file:///home/me/local", "dir_info": {}}),
        ("edited", "3.0", {"url": "file:///home/me/edited", "dir_info": {"editable": True}}),
        (
            "cloned",
            "4.0",
            {"url": "https://me:secret@git.example.org/c", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
        ),
        ("odd", "5.0", ["not", "a", "table"]),
    ):
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if direct is not None:
            (info / "direct_url.json").write_text(json.dumps(direct))
    return folder


def test_what_is_installed(venv):
    live = read_live(venv / "bin" / "python", environ={})
    assert live.installed.packages == {
        "cloned": "4.0", "edited": "3.0", "local": "2.0", "odd": "5.0", "some-package": "1.0",
    }  # fmt: skip
    assert live.installed.python_version == platform.python_version()
    assert live.installed.freeze.splitlines()[0] == "cloned==4.0"
    assert live.direct == {
        "cloned": "https://git.example.org/c@abc", "edited": "editable", "local": "file:///home/me/local",
        "odd": "installed from a URL",
    }  # fmt: skip
    assert live.prefix == str(venv)
    assert live.implementation == "cpython"
    assert live.platform.startswith("linux/")


def test_the_working_folder_and_pythonpath_take_no_part(venv, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')\n")
    (tmp_path / "extra-1.0.dist-info").mkdir()
    (tmp_path / "extra-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    monkeypatch.chdir(tmp_path)
    live = read_live(venv / "bin" / "python", environ={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert "extra" not in live.installed.packages


def test_variables_that_can_move_a_result_and_no_secrets(venv):
    environ = {
        "CUDA_VISIBLE_DEVICES": "0",
        "OMP_NUM_THREADS": "4",
        "SEED": "1",
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_TOKEN": "x",
        "HF_HOME": "/x",
        "HF_ENDPOINT": "https://me:pw@x.example.org",
        "AWS_SECRET_ACCESS_KEY": "x",
        "HOME": "/x",
    }
    live = read_live(venv / "bin" / "python", environ=environ)
    assert sorted(live.env) == [
        "CUDA_VISIBLE_DEVICES", "HF_HOME", "OMP_NUM_THREADS", "PYTHONHASHSEED", "SEED", "TOKENIZERS_PARALLELISM",
    ]  # fmt: skip


def test_no_interpreter(tmp_path):
    with pytest.raises(UsageError):
        read_live(tmp_path / "python", environ={})


@pytest.mark.parametrize("script", ["exit 1", "echo not-json", "echo oops >&2; exit 3"])
def test_an_interpreter_that_does_not_answer(tmp_path, script):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(WorldError):
        read_live(python, environ={"PATH": "/usr/bin:/bin"})
