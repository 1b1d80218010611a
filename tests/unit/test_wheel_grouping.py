from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from envlock.layers.grouping import MOST_LAYERS, group_wheels
from envlock.layers.keys import layer_key
from envlock.layers.target import Target
from envlock.model.lock import Wheel
from tests.support.locks import make_wheel

TARGET = Target(python="3.11.2")
names = st.text("abcdefgh", min_size=1, max_size=4)
sizes = st.one_of(st.integers(1, 1 << 20), st.integers(1 << 20, 1 << 30))
locks = st.dictionaries(names, sizes, max_size=150).map(
    lambda found: [make_wheel(name, size=size) for name, size in found.items()]
)


def keys(wheels: list[Wheel]) -> list[str]:
    return [layer_key(group.wheels, TARGET, {}, alone=group.alone) for group in group_wheels(wheels)]


@given(locks, st.randoms(use_true_random=False))
def test_every_wheel_is_in_one_layer_whatever_the_order(wheels: list[Wheel], random_: random.Random) -> None:
    groups = group_wheels(wheels)
    assert len(groups) <= MOST_LAYERS
    assert sorted(wheel.name for group in groups for wheel in group.wheels) == sorted(wheel.name for wheel in wheels)
    shuffled = list(wheels)
    random_.shuffle(shuffled)
    assert group_wheels(shuffled) == groups


@given(locks.filter(bool), st.data())
def test_a_changed_pin_changes_one_layer(wheels: list[Wheel], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(wheels) - 1))
    other = make_wheel(wheels[at].name, "2.0", size=wheels[at].size)
    changed = [*wheels[:at], other, *wheels[at + 1 :]]
    assert len(set(keys(wheels)) - set(keys(changed))) == 1
    assert len(set(keys(changed)) - set(keys(wheels))) == 1


@given(st.dictionaries(names, st.integers(1, 1 << 20), min_size=1, max_size=150), names, st.integers(1, 1 << 20))
def test_a_new_small_pin_leaves_all_others_where_they_are(found: dict[str, int], name: str, size: int) -> None:
    found.pop(name, None)
    wheels = [make_wheel(one, size=bytes_) for one, bytes_ in found.items()]
    more = [*wheels, make_wheel(name, size=size)]
    assert len(set(keys(wheels)) - set(keys(more))) <= 1
    assert len(set(keys(more)) - set(keys(wheels))) == 1


def test_large_ones_are_at_the_bottom_and_small_ones_on_top() -> None:
    wheels = [
        make_wheel("tiny", size=9_000),
        make_wheel("torch", "2.1.2", size=200 << 20),
        make_wheel("scipy", size=35 << 20),
        make_wheel("middle", size=700 << 10),
    ]
    assert [group.title for group in group_wheels(wheels)] == ["torch 2.1.2", "scipy 1.0", "middle 1.0", "tiny 1.0"]


def test_a_title_says_how_many() -> None:
    wheels = [make_wheel(name, size=1000) for name in ("zipp", "attrs", "idna")]
    assert [group.title for group in group_wheels(wheels)] == ["3 packages: attrs … zipp"]


def test_the_bound_holds_for_lists_of_large_wheels_only() -> None:
    wheels = [make_wheel(f"nvidia-{number}", size=(3 + number) << 20) for number in range(300)]
    assert len(group_wheels(wheels)) <= MOST_LAYERS


def test_what_makes_a_layer_another_one() -> None:
    wheel = make_wheel("demo")
    plain = layer_key([wheel], TARGET, {}, alone=False)
    others = [
        layer_key([make_wheel("demo", requested=True)], TARGET, {}, alone=False),
        layer_key([make_wheel("demo", "2.0")], TARGET, {}, alone=False),
        layer_key([wheel], Target(python="3.11.3"), {}, alone=False),
        layer_key([wheel], Target(python="3.11.2", venv="/opt/other"), {}, alone=False),
        layer_key([wheel], TARGET, {"demo": frozenset({"opt/venv/x"})}, alone=False),
        layer_key([wheel], TARGET, {}, alone=True),
    ]
    assert len({plain, *others}) == len(others) + 1
    assert layer_key([make_wheel("demo", required_by=("other",))], TARGET, {}, alone=False) == plain
