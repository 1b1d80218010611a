"""Whether a lock still answers its spec, said in words, without asking anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envlock.inputs import changes, inputs_of, settle
from envlock.model.spec import (
    Apt,
    AptRepository,
    AptRequest,
    ImageOptions,
    Index,
    Pip,
    ProjectFiles,
    Requested,
    Seeds,
    Spec,
    Tracking,
)
from tests.support.locks import make_lock

SPEC = Spec(
    name="demo",
    base="example.org/base:py3.11",
    python="3.11",
    apt=Apt(packages=(AptRequest(name="git"),)),
    pip=Pip(packages=("numpy", "scipy")),
    env={"A": "1"},
    seeds=Seeds(seed=42),
    image=ImageOptions(repository="demo"),
    project=ProjectFiles(include=("*.py",)),
)
REQUESTED = Requested(spec=SPEC, requirements=("numpy", "scipy"), constraints=())


def locked(requested: Requested):
    return settle(requested, make_lock(inputs=inputs_of(requested)))


def with_spec(**members: object) -> Requested:
    return replace(REQUESTED, spec=replace(SPEC, **members))


def test_a_fresh_lock_answers_its_spec() -> None:
    assert changes(REQUESTED, locked(REQUESTED)) == ()


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (with_spec(base="other:1"), "base: 'example.org/base:py3.11' is now 'other:1'"),
        (with_spec(cuda="12.4"), "cuda: not set is now '12.4'"),
        (with_spec(apt=Apt()), "apt: 'git' is gone"),
        (with_spec(apt=Apt(packages=(AptRequest(name="git", version="1"),))), "apt: 'git=1' is new"),
        (replace(REQUESTED, requirements=("numpy<2", "scipy")), "requirements: 'numpy<2' is new"),
        (replace(REQUESTED, constraints=("six<2",)), "constraints: 'six<2' is new"),
        (with_spec(env={"A": "2"}), "env.A: '1' is now '2'"),
        (with_spec(env={}), "env.A: '1' is now not set"),
        (with_spec(seeds=Seeds(seed=43)), "seeds.seed: 42 is now 43"),
        (with_spec(image=ImageOptions(repository="demo", user="me")), "image.user: 'envlock' is now 'me'"),
        (with_spec(mlflow=Tracking(experiment="x")), "mlflow.experiment: not set is now 'x'"),
        (
            with_spec(pip=Pip(indexes=(Index(name="i", url="https://example.org/simple", packages=("torch",)),))),
            "indexes: 'i https://example.org/simple torch' is new",
        ),
        (with_spec(pip=Pip(resolver="uv")), "resolver: 'pip-tools' is now 'uv'"),
    ],
)
def test_each_change_is_named(requested: Requested, expected: str) -> None:
    assert expected in changes(requested, locked(REQUESTED))
    assert changes(requested, settle(requested, locked(requested))) == ()


def test_another_key_of_an_apt_repository_is_a_change() -> None:
    repository = AptRepository(name="r", uri="https://example.org/apt", suite="s", components=("main",), key="k.asc")
    requested = replace(with_spec(apt=Apt(repositories=(repository,))), keys={"r": b"one"})
    other = replace(requested, keys={"r": b"two"})
    assert any(line.startswith("apt repositories:") for line in changes(other, locked(requested)))


def test_the_order_of_indexes_matters_and_is_named() -> None:
    first, second = (Index(name=name, url=f"https://example.org/{name}") for name in ("a", "b"))
    before = with_spec(pip=Pip(indexes=(first, second)))
    after = with_spec(pip=Pip(indexes=(second, first)))
    assert changes(after, locked(before)) == ("indexes: the order changed",)
