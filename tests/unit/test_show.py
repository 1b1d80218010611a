from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from envlock.diff import compare
from envlock.errors import BuildFailed, EngineError, InputError
from envlock.formats.environments import environment_of_live, environment_of_lock, environment_of_notes, split_env
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.formats.probe import SCRIPT, parse_probe
from envlock.inside import read_installed
from envlock.model.image import Installed
from envlock.model.live import LiveEnvironment
from envlock.model.lock import Cuda
from envlock.model.plan import Project
from envlock.plan import make_plan
from envlock.ports import Completed
from envlock.show import as_json, as_text, environment_of_image
from tests.support.images import FakeContainer, FakeEngine, make_engine_image, probe_answer
from tests.support.locks import make_lock

LOCK = make_lock(cuda=Cuda(version="12.1", min_driver="525.60.13", evidence=()))
OS_RELEASE = b'NAME=x\nPRETTY_NAME="Ubuntu 24.04 LTS"\n'
STATUS = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""


def built_image(**overrides: Any) -> Any:
    plan = make_plan(LOCK, Project(revision="a" * 40), fingerprint=fingerprint(LOCK), lock_text=dump_lock(LOCK))
    env = {**LOCK.base.env, **plan.config.env}
    return make_engine_image(labels=dict(plan.config.labels), env=env, **overrides)


def test_an_image_that_envlock_built_is_what_its_lock_says() -> None:
    container = FakeContainer(files={"/opt/envlock/envlock.lock": dump_lock(LOCK).encode()}, programs={})
    image = environment_of_image("demo:latest", engine=FakeEngine(built_image(), container), title="it")
    lock = environment_of_lock(LOCK, title="lock")
    assert (image.kind, image.title, image.fingerprint) == ("image", "it", fingerprint(LOCK))
    assert compare(image, lock).changes == ()
    assert compare(lock, image).unknown == ()
    assert image.seeds == lock.seeds == {"seed": "42", "data_seed": "7", "cudnn_deterministic": "true"}
    assert (image.labels or {})["org.opencontainers.image.revision"] == "a" * 40
    assert container.ran == []


@pytest.mark.parametrize("lock", [b"{", dump_lock(make_lock(name="other")).encode(), None])
def test_a_lock_that_is_not_the_images_own_is_not_believed(lock: bytes | None) -> None:
    files = {"/etc/os-release": OS_RELEASE, "/var/lib/dpkg/status": STATUS}
    if lock is not None:
        files["/opt/envlock/envlock.lock"] = lock
    answer = probe_answer({"NumPy": "1.26.4", "torch": "2.1.2"}, torch="2.1.2+cu121", cuda="12.1")
    container = FakeContainer(files=files, programs={"python3": answer})
    image = environment_of_image("demo:latest", engine=FakeEngine(built_image(), container), title="x")
    assert image.os == "Ubuntu 24.04 LTS"
    assert image.python == "3.11.2"
    assert image.apt == {"libc6": "2.36-9"}
    assert image.pip == {"numpy": "1.26.4", "torch": "2.1.2"}
    assert image.cuda == {"version": "12.1"}
    assert image.fingerprint is None


def test_of_an_image_that_nothing_runs_in_its_configuration_is_known() -> None:
    env = {"CUDA_VERSION": "12.4.1", "SEED": "1", "PYTHONHASHSEED": "1", "EMPTY": ""}
    image = environment_of_image("demo:latest", engine=FakeEngine(make_engine_image(env=env)), title="x")
    assert image.env == {"CUDA_VERSION": "12.4.1", "EMPTY": ""}
    assert image.seeds == {"seed": "1"}
    assert (image.python, image.pip, image.apt, image.os) == (None, None, None, None)
    assert "not known: os, python, cuda, apt, pip" in as_text(image)


def test_an_image_that_is_not_there() -> None:
    with pytest.raises(InputError, match="the engine has no image 'other:1'"):
        environment_of_image("other:1", engine=FakeEngine(make_engine_image()), title="x")


@pytest.mark.parametrize(
    "answer",
    [
        Completed(exit_code=1, stdout=b"", stderr=b"Segmentation fault"),
        Completed(exit_code=0, stdout=b"hello", stderr=b""),
    ],
)
def test_a_python_that_does_not_answer(answer: Completed) -> None:
    container = FakeContainer(files={}, programs={"python": answer})
    with pytest.raises(EngineError, match="python in the image"):
        environment_of_image("demo:latest", engine=FakeEngine(make_engine_image(), container), title="x")


def test_what_is_installed_is_read_as_pip_says_it() -> None:
    venv = "/opt/venv/bin/python"
    with_pip = {venv: probe_answer({"pip": "25.0", "torch": "2.1.2"}, torch="2.1.2+cu121")}
    freeze = Completed(exit_code=0, stdout=b"pip==25.0\ntorch==2.1.2\n", stderr=b"")
    installed = read_installed(FakeContainer(files={}, programs={**with_pip, "pip": freeze}))
    assert installed.freeze == "pip==25.0\ntorch==2.1.2\n"
    assert installed.reported == {"python": "3.11.2 (main) [GCC]", "torch": "2.1.2+cu121"}
    without = read_installed(FakeContainer(files={}, programs={venv: probe_answer({"numpy": "2.0"})}))
    assert without.freeze == "numpy==2.0\n"
    with pytest.raises(BuildFailed, match="/opt/venv/bin/python of the image does not run"):
        read_installed(FakeContainer(files={}, programs={}))


def test_the_program_that_asks_runs_in_a_real_python() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True, timeout=60)
    probed = parse_probe(done.stdout)
    assert probed.python == ".".join(map(str, sys.version_info[:3]))
    assert probed.full == sys.version
    assert "pytest" in probed.packages


def test_this_machine_is_an_environment_too() -> None:
    installed = Installed(python_version="3.11.2", packages={"torch": "2.1.2+cu118", "mine": "1.0"}, freeze="")
    live = environment_of_live(
        LiveEnvironment(
            installed=installed,
            executable="/usr/bin/python3",
            prefix="/usr",
            implementation="cpython",
            platform="linux/amd64",
            libc=None,
            os="Debian",
            direct={"mine": "editable"},
            env={"OMP_NUM_THREADS": "2", "SEED": "7"},
            driver="550.54",
            gpus=("H200", "H200"),
        ),
        title="live",
    )
    assert live.cuda == {"driver": "550.54", "gpu": "H200, H200", "version": "11.8"}
    assert live.pip == {"torch": "2.1.2+cu118", "mine": "1.0 (editable)"}
    assert (live.env, live.seeds) == ({"OMP_NUM_THREADS": "2"}, {"seed": "7"})


def test_seeds_are_no_variables_and_what_follows_from_them_is_not_said_twice() -> None:
    env = {
        "SEED": "42",
        "DATA_SEED": "7",
        "CUDNN_DETERMINISTIC": "true",
        "PYTHONHASHSEED": "42",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    assert split_env(env) == ({}, {"seed": "42", "data_seed": "7", "cudnn_deterministic": "true"})
    assert split_env({**env, "PYTHONHASHSEED": "0", "CUDNN_DETERMINISTIC": "false"}) == (
        {"PYTHONHASHSEED": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        {"seed": "42", "data_seed": "7"},
    )


def test_params_that_are_no_packages_are_not_taken_for_some() -> None:
    params = {"dataset_version": "3", "torch_version": "2.1", "cuda_version": "None", "peft_version": "None", "lr": "1"}
    noted = environment_of_notes(title="x", params=params, tags={}, listing=None)
    assert noted.pip == {"torch": "2.1"}
    assert noted.cuda is None


def test_the_text_hides_passwords_and_control_characters() -> None:
    env = {"HF_TOKEN": "hf_verysecret", "URL": "https://anna:hunter2@example.org", "TOKENIZERS_PARALLELISM": "false"}
    image = make_engine_image(env=env, labels={"a": "x\x1b[31m\ny"})
    shown = environment_of_image("demo:latest", engine=FakeEngine(image), title="x")
    for text in (as_text(shown), json.dumps(as_json(shown))):
        assert "verysecret" not in text
        assert "hunter2" not in text
        assert "false" in text
        assert "\x1b" not in text


def test_the_text_of_a_lock() -> None:
    text = as_text(environment_of_lock(LOCK, title="envlock.lock"))
    assert "Python       3.11.2\n" in text
    assert "CUDA         version 12.1, min_driver 525.60.13\n" in text
    assert "apt: 2 (added to the base)\n" in text
    assert "  numpy  2.1.0\n" in text
    assert "not known" not in text


def test_the_json_has_every_member_known_or_not() -> None:
    lock = as_json(environment_of_lock(LOCK, title="x"))
    noted = as_json(environment_of_notes(title="x", params={}, tags={}, listing=None))
    assert lock.keys() == noted.keys()
    assert noted["pip"] is None
    assert json.loads(json.dumps(lock)) == lock
