"""Every folder of tests/golden/diff: two environments in, three reports out; and what must hold for any two.

ENVLOCK_TEST_WRITE_GOLDEN=1 writes the reports anew: then read the diff.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envlock.diff import as_json, as_markdown, as_text, compare
from envlock.diff.compare import GROUPS
from envlock.diff.jumps import debian_jump, python_jump
from envlock.diff.suspects import weigh
from envlock.formats.environments import environment_of_lock
from envlock.formats.structure import from_plain
from envlock.model.environment import Comparison, Environment
from tests.support.locks import make_lock, make_wheel

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "diff"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def read(case: str) -> Comparison:
    sides = (json.loads((GOLDEN / case / f"{side}.json").read_text(encoding="utf-8")) for side in ("before", "after"))
    return compare(*(from_plain(Environment, side) for side in sides))


@pytest.mark.parametrize("case", CASES)
def test_the_reports_are_what_is_expected(case: str) -> None:
    comparison = read(case)
    reports = {
        "report.txt": as_text(comparison),
        "report.md": as_markdown(comparison),
        "report.json": json.dumps(as_json(comparison), indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in reports.items():
        if os.environ.get("ENVLOCK_TEST_WRITE_GOLDEN"):
            (GOLDEN / case / name).write_text(text, encoding="utf-8")
        assert text == (GOLDEN / case / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_no_report_has_a_password_or_a_control_character(case: str) -> None:
    comparison = read(case)
    for text in (as_text(comparison), as_markdown(comparison), json.dumps(as_json(comparison))):
        assert "hunter" not in text
        assert "hf_" not in text
        assert "\x1b" not in text


@pytest.mark.parametrize("case", CASES)
def test_every_row_of_a_table_has_four_cells(case: str) -> None:
    rows = [line for line in as_markdown(read(case)).splitlines() if line.startswith("| ")]
    for row in rows:
        assert row.replace("\\|", "").count("|") == 5, row


def test_colour_is_only_added_where_it_is_asked_for() -> None:
    comparison = read("everything")
    assert "\033[" not in as_text(comparison)
    painted = as_text(comparison, colour=True)
    assert "\033[31m" in painted
    plain = painted
    for code in ("\033[1m", "\033[31m", "\033[33m", "\033[2m", "\033[0m"):
        plain = plain.replace(code, "")
    assert plain == as_text(comparison)


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("1.26.4", "2.0.1", ("major", False)),
        ("2.0.1", "1.26.4", ("major", True)),
        ("1.26.4", "1.27.0", ("minor", False)),
        ("1.26.4", "1.26.3", ("patch", True)),
        ("1.0", "1.0.0", None),
        ("1.0.0.1", "1.0.0.2", ("patch", False)),
        ("1.0rc1", "1.0", ("patch", False)),
        ("1.0", "1.0.post1", ("patch", False)),
        ("1!1.0", "1.0", ("major", True)),
        ("2.1.2+cu118", "2.1.2+cu121", ("local", False)),
        ("2.1.2", "2.1.2+cu121", ("local", False)),
        ("2.1.2+cu118", "2.1.3+cu118", ("patch", False)),
        ("2024.1", "2025.1", ("major", False)),
        ("@ file:///x", "1.0", ("changed", False)),
        ("odd", "odd", None),
    ],
)
def test_jumps_between_python_versions(before: str, after: str, expected: object) -> None:
    assert python_jump(before, after) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("1:2.30.2-1+deb11u2", "1:2.39.5-0+deb12u2", ("minor", False)),
        ("2.36-9+deb12u7", "2.36-9+deb12u9", ("build", False)),
        ("2.36-9+deb12u10", "2.36-9+deb12u9", ("build", True)),
        ("7.88.1-1", "7.88.2-1", ("patch", False)),
        ("7.88.1-1", "8.0-1", ("major", False)),
        ("2:1.0-1", "1:1.0-1", ("major", True)),
        ("0:1.0-1", "1.0-1", None),
        ("1.0~rc1-1", "1.0-1", ("patch", False)),
        ("20230311", "20240203", ("major", False)),
        ("not a version", "1.0", ("changed", False)),
    ],
)
def test_jumps_between_debian_versions(before: str, after: str, expected: object) -> None:
    assert debian_jump(before, after) == expected


# --- what is suspected ------------------------------------------------------------------------------------------------


def test_the_order_of_suspects() -> None:
    suspects = [
        weigh("python", "python", "minor"),
        weigh("cuda", "version", "patch"),
        weigh("pip", "numpy", "patch"),
        weigh("pip", "pandas", "patch"),
        weigh("pip", "some-package", "major"),
        weigh("pip", "pytest", "major"),
        weigh("labels", "org.example.team", "changed"),
    ]
    assert suspects == sorted(suspects, reverse=True)
    assert weigh("pip", "torch", "major") > weigh("pip", "torch", "minor") > weigh("pip", "torch", "patch")
    assert weigh("seeds", "seed", "changed") > weigh("pip", "numpy", "patch")
    assert weigh("apt", "libopenblas0-pthread", "minor") > weigh("apt", "git", "major")
    assert weigh("apt", "libstdc++6", "minor") > weigh("apt", "libmagic1", "minor")
    assert weigh("pip", "nvidia-cudnn-cu12", "minor") == weigh("pip", "numpy", "minor")
    assert weigh("env", "OMP_NUM_THREADS", "changed") > weigh("env", "PATH", "changed")


# --- what each side says ----------------------------------------------------------------------------------------------

LOCKED = environment_of_lock(make_lock(), title="a")


def names(before: Environment, after: Environment) -> set[tuple[str, str, str]]:
    return {(change.group, change.name, change.jump) for change in compare(before, after).changes}


def test_another_wheel_of_the_same_version_is_another_build() -> None:
    rebuilt = make_lock(wheels=(make_wheel("numpy", "2.1.0", sha256="0" * 64), make_lock().wheels[1]))
    assert names(LOCKED, environment_of_lock(rebuilt, title="b")) == {("pip", "numpy", "build")}


def test_a_group_that_one_side_does_not_know_is_unknown_and_no_difference() -> None:
    comparison = compare(LOCKED, replace(LOCKED, apt=None, env=None))
    assert comparison.same
    assert comparison.unknown == ("apt", "env")
    assert "apt, env not known" in comparison.verdict
    assert compare(replace(LOCKED, apt=None), replace(LOCKED, apt=None)).unknown == ()


def test_an_empty_group_is_known() -> None:
    assert names(LOCKED, replace(LOCKED, seeds={})) == {
        ("seeds", name, "removed") for name in ("seed", "data_seed", "cudnn_deterministic")
    }


def test_an_image_has_more_than_its_lock_added() -> None:
    whole = replace(
        LOCKED, kind="image", scope={}, apt={**(LOCKED.apt or {}), "libc6": "1"}, env={**(LOCKED.env or {}), "A": "b"}
    )
    assert compare(LOCKED, whole).same
    assert compare(whole, LOCKED).same
    assert names(LOCKED, replace(whole, apt={"libc6": "1"})) == {("apt", name, "removed") for name in LOCKED.apt or ()}


def test_what_somebody_wrote_down_is_held_against_what_is_known() -> None:
    noted = replace(LOCKED, pip={"torch": "2.1.2+cu121", "numpy": "2.1.0"}, hashes=None, scope={"pip": "some"})
    assert names(noted, LOCKED) == {("pip", "torch", "removed")}
    both = replace(noted, pip={"numpy": "2.2.0"})
    assert names(noted, both) == {("pip", "numpy", "minor")}
    assert compare(replace(noted, pip={"torch": "2.1.2"}), replace(noted, pip={"torch": "2.1.2+cu121"})).same


def test_what_only_some_sources_say_counts_only_where_both_do() -> None:
    with_gpu = replace(LOCKED, cuda={"version": "12.1", "driver": "550", "gpu": "H200"})
    without = replace(LOCKED, cuda={"version": "12.1", "min_driver": "525"})
    assert compare(with_gpu, without).same
    other = replace(LOCKED, cuda={"version": "12.1", "driver": "560", "gpu": "A100"})
    assert {name for _, name, _ in names(with_gpu, other)} == {"driver", "gpu"}


def test_the_verdict_names_the_likeliest_of_all() -> None:
    after = replace(LOCKED, pip={"numpy": "3.0.0", "scipy": "1.14.1"}, hashes=None)
    verdict = compare(LOCKED, after).verdict
    assert verdict == "different: numpy 2.1.0 → 3.0.0 (major) is the likeliest of 2 differences"
    verdict = compare(LOCKED, replace(LOCKED, python="3.11.1")).verdict
    assert verdict == "different: Python 3.11.2 → 3.11.1 (patch, downgrade) is the only difference"


# --- for any two ------------------------------------------------------------------------------------------------------

VERSIONS = st.sampled_from(["1.0", "1.0.0", "1.0.1", "1.1", "2.0", "2.0+cu118", "2.0rc1", "1:1.0-1", "1.0-2", "odd"])
ENTRIES = st.none() | st.dictionaries(st.sampled_from(["numpy", "torch", "x", "pip", "libc6"]), VERSIONS, max_size=4)
SCOPES = st.dictionaries(st.sampled_from(GROUPS), st.sampled_from(["all", "added", "some"]))
ENVIRONMENTS = st.builds(
    Environment,
    title=st.sampled_from(["a", "b"]),
    kind=st.just("lock"),
    platform=st.none() | st.sampled_from(["linux/amd64", "linux/arm64"]),
    base=ENTRIES,
    os=st.none() | st.sampled_from(["Debian", "Ubuntu"]),
    python=st.none() | VERSIONS,
    cuda=ENTRIES,
    apt=ENTRIES,
    pip=ENTRIES,
    hashes=ENTRIES,
    env=ENTRIES,
    seeds=ENTRIES,
    labels=ENTRIES,
    scope=SCOPES,
)


@given(ENVIRONMENTS)
def test_nothing_differs_from_itself(environment: Environment) -> None:
    comparison = compare(environment, environment)
    assert comparison.same
    assert comparison.unknown == ()
    assert comparison.verdict == "same"


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_the_other_way_round_is_the_same_the_other_way_round(one: Environment, other: Environment) -> None:
    there, back = compare(one, other), compare(other, one)
    turned = {"added": "removed", "removed": "added"}
    assert {(c.group, c.name, c.before, c.after, c.jump) for c in there.changes} == {
        (c.group, c.name, c.after, c.before, turned.get(c.jump, c.jump)) for c in back.changes
    }
    assert there.unknown == back.unknown
    ups = {(c.group, c.name): c.downgrade for c in there.changes}
    downs = {(c.group, c.name): c.downgrade for c in back.changes}
    assert not any(ups[name] and downs[name] for name in ups)


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_every_report_can_be_made_of_any_two(one: Environment, other: Environment) -> None:
    comparison = compare(one, other)
    weights = [change.weight for change in comparison.changes]
    assert weights == sorted(weights, reverse=True)
    assert as_text(comparison).startswith(comparison.verdict)
    assert as_markdown(comparison)
    assert json.loads(json.dumps(as_json(comparison)))["same"] is comparison.same
