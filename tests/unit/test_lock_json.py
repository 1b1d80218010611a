"""The lock file: stable bytes, strict reading, a fingerprint that means the environment."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envlock.errors import LockError
from envlock.formats.lock_json import dump_lock, fingerprint, load_lock
from envlock.model.lock import Lock, SourceBuild
from envlock.model.spec import ImageOptions, Seeds, Tracking
from tests.support.locks import make_base, make_deb, make_lock, make_wheel

names = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5})?", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}((a|b|rc)[0-9])?(\+[a-z0-9]{1,6})?", fullmatch=True)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    wheels = tuple(
        make_wheel(name, version, requested=draw(st.booleans()), required_by=tuple(draw(st.lists(names, max_size=2))))
        for name, version in draw(st.dictionaries(names, versions, max_size=5)).items()
    )
    debs = tuple(make_deb(f"x{name}", version) for name, version in draw(st.dictionaries(names, versions)).items())
    return make_lock(
        name=draw(names),
        wheels=wheels,
        debs=debs,
        env=draw(st.dictionaries(texts, texts, max_size=4)),
        seeds=Seeds(seed=draw(st.none() | st.integers(0, 2**32 - 1)), cudnn_deterministic=draw(st.booleans())),
        mlflow=Tracking(experiment=draw(st.none() | texts)),
    )


@given(locks())
def test_a_lock_survives_the_file_and_its_bytes_are_stable(lock: Lock) -> None:
    text = dump_lock(lock)
    again = load_lock(text.encode())
    assert dump_lock(again) == text
    assert fingerprint(again) == fingerprint(lock)
    assert text.endswith("}\n")
    assert "\r" not in json.dumps(text)


@given(locks(), st.data())
def test_a_truncated_lock_is_refused(lock: Lock, data: st.DataObject) -> None:
    text = dump_lock(lock)
    cut = data.draw(st.integers(0, len(text) - 3))
    with pytest.raises(LockError):
        load_lock(text[:cut])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_escape_as_another_error(content: bytes) -> None:
    with pytest.raises(LockError):
        load_lock(content)


@given(locks())
def test_the_order_of_packages_does_not_name_another_environment(lock: Lock) -> None:
    shuffled = replace(lock, wheels=tuple(reversed(lock.wheels)), debs=tuple(reversed(lock.debs)))
    assert fingerprint(shuffled) == fingerprint(lock)


MATERIAL = {
    "base": lambda lock: replace(lock, base=make_base(image_id="sha256:" + "1" * 64)),
    "wheel": lambda lock: replace(lock, wheels=(*lock.wheels, make_wheel("extra"))),
    "wheel hash": lambda lock: replace(lock, wheels=(make_wheel("numpy", "2.1.0", sha256="a" * 64), lock.wheels[1])),
    "deb": lambda lock: replace(lock, debs=lock.debs[:1]),
    "env": lambda lock: replace(lock, env={}),
    "seed": lambda lock: replace(lock, seeds=Seeds(seed=43, data_seed=7, cudnn_deterministic=True)),
    "user": lambda lock: replace(lock, image=replace(lock.image, user="other")),
    "label": lambda lock: replace(lock, image=replace(lock.image, labels={"a": "b"})),
    "entrypoint": lambda lock: replace(lock, image=replace(lock.image, entrypoint=("tini", "--"))),
}
IMMATERIAL = {
    "tags": lambda lock: replace(lock, image=replace(lock.image, tags=("latest",))),
    "repository": lambda lock: replace(lock, image=ImageOptions(repository="elsewhere")),
    "tracking": lambda lock: replace(lock, mlflow=Tracking(experiment="other")),
    "who asked": lambda lock: replace(lock, wheels=tuple(replace(w, required_by=()) for w in lock.wheels)),
    "installer": lambda lock: replace(lock, installer=make_wheel("pip", "26.0")),
}


@pytest.mark.parametrize("change", MATERIAL.values(), ids=MATERIAL.keys())
def test_what_goes_into_the_image_changes_the_fingerprint(change) -> None:
    assert fingerprint(change(make_lock())) != fingerprint(make_lock())


@pytest.mark.parametrize("change", IMMATERIAL.values(), ids=IMMATERIAL.keys())
def test_what_does_not_go_into_the_image_keeps_the_fingerprint(change) -> None:
    assert fingerprint(change(make_lock())) == fingerprint(make_lock())


def test_the_fingerprint_of_format_1_never_changes() -> None:
    # a change here renames every environment that anyone ever locked: add a form 2 instead
    assert fingerprint(make_lock()) == "fd9be37ee740243dec6c87090f56cd37e3e7cef758208f0b7c5044471021e9c8"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d["wheels"][0].update(version="9.9"), "edited by hand"),
        (lambda d: d["mlflow"].update(experiment="mine"), "edited by hand"),
        (lambda d: d["envlock"].update(fingerprint="0" * 64), "edited by hand"),
        (lambda d: d["envlock"].update(format=2), "newer than this envlock"),
        (lambda d: d["envlock"].update(format="x"), "unknown lock format"),
        (lambda d: d.pop("envlock"), "not an envlock lock file"),
        (lambda d: d.pop("base"), "member 'base' is missing"),
        (lambda d: d["wheels"][1].pop("sha256"), "member 'sha256' is missing in 'wheels[1]'"),
        (lambda d: d["wheels"][1].update(size=True), "expected an integer, found true or false in 'wheels[1].size'"),
        (lambda d: d["wheels"][0].update(hash="x"), "unknown member 'hash' in 'wheels[0]'"),
        (lambda d: d["wheels"][0].update(filename="../../etc/passwd"), "is not allowed in 'wheels[0].filename'"),
        (lambda d: d["wheels"][0].update(version="1.0\nRUN evil"), "is not allowed in 'wheels[0].version'"),
        (lambda d: d["debs"][0].update(version="1; rm -rf /"), "is not allowed in 'debs[0].version'"),
        (lambda d: d["debs"][0].update(path="/abs/x.deb"), "is not allowed in 'debs[0].path'"),
        (lambda d: d["debs"][0].update(path="pool/../x.deb"), "is not allowed in 'debs[0].path'"),
        (lambda d: d["base"].update(image_id="latest"), "is not allowed in 'base.image_id'"),
        (lambda d: d["base"].update(repository=""), "is not allowed in 'base.repository'"),
        (lambda d: d["base"].update(repository="--platform=x"), "is not allowed in 'base.repository'"),
        (lambda d: d["base"].update(repository="x\nRUN evil"), "is not allowed in 'base.repository'"),
        (lambda d: d["base"]["python"].update(version="3.11\nRUN evil"), "is not allowed in 'base.python.version'"),
        (lambda d: d["base"]["python"].update(executable="--mount=x"), "is not allowed in 'base.python.executable'"),
        (lambda d: d["image"].update(repository="../x"), "is not allowed in 'image.repository'"),
        (lambda d: d["image"].update(tags=["a b"]), "is not allowed in 'image.tags[0]'"),
        (lambda d: d["image"].update(user="a;b"), "is not allowed in 'image.user'"),
        (lambda d: d["image"].update(uid=-5), "-5 is not allowed in 'image.uid'"),
        (lambda d: d["image"].update(workdir="-rf"), "is not allowed in 'image.workdir'"),
        (lambda d: d.update(platform="linux/amd64\nRUN"), "is not allowed in 'platform'"),
        (lambda d: d["wheels"][0].update(size=-1), "-1 is not allowed in 'wheels[0].size'"),
        (lambda d: d["wheels"][0].update(source="nope"), "'nope' is not allowed in 'wheels[0].source'"),
        (lambda d: d["debs"][0].update(source="nope"), "'nope' is not allowed in 'debs[0].source'"),
    ],
)
def test_each_fault_is_named(edit, message: str) -> None:
    document = json.loads(dump_lock(make_lock()))
    edit(document)
    with pytest.raises(LockError) as caught:
        load_lock(json.dumps(document), file="dir/envlock.lock")
    assert message in caught.value.message
    assert caught.value.message.startswith("dir/envlock.lock")
    assert caught.value.hint


def test_members_given_twice_are_refused() -> None:
    text = dump_lock(make_lock()).replace('"name": "demo"', '"name": "demo", "name": "demo"', 1)
    with pytest.raises(LockError, match="twice"):
        load_lock(text)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_merge_conflict_is_called_that(newline: str) -> None:
    ours, theirs = (dump_lock(make_lock(name=name)) for name in ("ours", "theirs"))
    text = newline.join(["<<<<<<< HEAD", ours, "=======", theirs, ">>>>>>> topic", ""])
    with pytest.raises(LockError, match="merge conflict") as caught:
        load_lock(text.encode())
    assert "take either side" in caught.value.hint


def test_nesting_is_bounded() -> None:
    with pytest.raises(LockError):
        load_lock("[" * 100_000)


def test_a_wheel_built_from_source_survives() -> None:
    source = SourceBuild(
        source="default", filename="a-1.tar.gz", sha256="b" * 64, size=3, build_requires=(make_wheel("setuptools"),)
    )
    lock = make_lock(wheels=(make_wheel("a", built_from=source),))
    assert load_lock(dump_lock(lock)) == lock
