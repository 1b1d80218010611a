"""From lock and project to plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from envlock.errors import InputError
from envlock.model.plan import (
    RESERVED_LABELS,
    MetadataLayer,
    Plan,
    Project,
    ProjectFile,
    ProjectLayer,
    PythonLayer,
    SystemLayer,
)
from envlock.model.spec import Seeds
from envlock.plan import make_plan, project_digest
from tests.support.locks import make_base, make_lock, make_wheel

FINGERPRINT = "ab" * 32
FILE = ProjectFile(path="train.py", executable=False, size=3, sha256="1" * 64)


def plan(project: Project | None = None, **overrides: Any) -> Plan:
    return make_plan(make_lock(**overrides), project or Project(), fingerprint=FINGERPRINT, lock_text="the lock")


def labels(*, project: Project | None = None, **asked: str) -> dict[str, str]:
    image = replace(make_lock().image, labels=asked)
    found = plan(project, image=image).config.labels
    return {name.removeprefix("org.opencontainers.image."): value for name, value in found.items()}


def test_layers_from_what_changes_least_to_what_changes_most():
    layers = plan(Project(files=(FILE,))).layers
    assert [type(layer) for layer in layers] == [SystemLayer, PythonLayer, MetadataLayer, ProjectLayer]
    assert layers[0].debs == make_lock().debs
    assert layers[1].wheels == make_lock().wheels
    assert layers[2].files["envlock.lock"] == b"the lock"
    assert f"sha256:{make_wheel('numpy', '2.1.0').sha256}" in layers[2].files["requirements.txt"].decode()


def test_no_layers_for_what_is_not_there():
    assert [type(layer) for layer in plan(debs=(), wheels=()).layers] == [PythonLayer, MetadataLayer]


def test_tag():
    assert plan().tag == "env-abababababab"


@pytest.mark.parametrize(
    ("base", "asked", "path"),
    [
        ({"PATH": "/base"}, {}, "/opt/venv/bin:/base"),
        ({}, {}, "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ({"PATH": "/base"}, {"PATH": "/mine:$PATH"}, "/opt/venv/bin:/mine:$PATH"),
    ],
)
def test_the_environments_programs_come_first(base, asked, path):
    env = plan(base=make_base(env=base), env={**asked, "VIRTUAL_ENV": "/elsewhere"}).config.env
    assert (env["PATH"], env["VIRTUAL_ENV"]) == (path, "/opt/venv")


@pytest.mark.parametrize(
    ("seeds", "env"),
    [
        (Seeds(), {}),
        (Seeds(seed=0), {"SEED": "0", "PYTHONHASHSEED": "0", "CUDNN_DETERMINISTIC": "false"}),
        (Seeds(data_seed=5), {"DATA_SEED": "5", "CUDNN_DETERMINISTIC": "false"}),
        (Seeds(cudnn_deterministic=True), {"CUDNN_DETERMINISTIC": "true", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}),
    ],
)
def test_seeds(seeds, env):
    found = dict(plan(seeds=seeds, env={}).config.env)
    assert {name: value for name, value in found.items() if name not in {"PATH", "VIRTUAL_ENV"}} == env


def test_labels_with_nothing_known():
    found = labels()
    assert found["created"] == "1970-01-01T00:00:00Z"
    assert found["title"] == "demo"
    assert found["base.name"] == "example.org/base:py3.11"
    assert found["base.digest"] == make_base().manifest_digest
    assert found["envlock.fingerprint"] == FINGERPRINT
    # not left out: a base's own would be inherited
    assert (found["revision"], found["version"], found["source"]) == ("", "", "")


def test_labels_with_everything_known():
    project = Project(revision="c" * 40, version="v1-dirty", source="https://example.org/x", epoch=1767225600)
    found = labels(project=project, **{"org.example.a": "b"})
    assert (found["revision"], found["version"], found["source"]) == ("c" * 40, "v1-dirty", "https://example.org/x")
    assert found["created"] == "2026-01-01T00:00:00Z"
    assert found["org.example.a"] == "b"


def test_a_local_bases_digest_is_its_image_id():
    base = make_base(manifest_digest=None)
    assert plan(base=base).config.labels["org.opencontainers.image.base.digest"] == base.image_id


@pytest.mark.parametrize("name", [*sorted(RESERVED_LABELS), "envlock.fingerprint", "envlock.else"])
def test_our_labels_are_not_overridden(name):
    with pytest.raises(InputError, match=f"'{name}' is a label that envlock sets itself"):
        labels(**{name: "x"})


def test_a_projects_digest_is_over_path_mode_and_content():
    others = [
        replace(FILE, path="eval.py"),
        replace(FILE, executable=True),
        replace(FILE, sha256="2" * 64),
    ]
    found = {project_digest(Project(files=(file,))) for file in (FILE, *others)}
    assert len(found) == 4
    assert project_digest(Project(files=(FILE,), revision="c" * 40, epoch=7)) in found
