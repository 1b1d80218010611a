"""One pin changed: over packages of all sizes, in environments of several sizes, and by what one would do instead."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.bench import percentile, spread
from benchmarks.environments import Built, Environment
from benchmarks.measure import CommandFailed, Result, say, settle
from benchmarks.rivals import Rival
from benchmarks.tables import megabytes, one_line, section, table
from envlock.model.lock import Wheel

_RIVAL_PINS = {"uv": 3, "pip": 1}  # where each takes minutes
_RIVAL_PINS_SMALL = {"uv": 5, "pip": 3}
_LARGE = 60  # packages; above, rivals take minutes
_STEPS = ("layers", "load", "tag")


@dataclass(kw_only=True)
class Pin:
    """The builds after one package changed."""

    wheel: Wheel
    builds: list[Built] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(built.done.seconds for built in self.builds)

    def step(self, name: str) -> float:
        return statistics.median(built.seconds.get(name, 0) for built in self.builds)


def measure(environment: Environment, wheels: Sequence[Wheel], *, runs: int) -> list[Pin]:
    """Change each pin in turn, ``runs`` times around; the lock's own image is there each time."""
    pins = [Pin(wheel=wheel) for wheel in wheels]
    for number in range(runs):
        for pin in pins:
            _change(environment, pin, f"{environment.name}, {pin.wheel.name}, run {number + 1}")
    environment.bench.engine.remove([built.image for pin in pins for built in pin.builds])
    return [pin for pin in pins if pin.builds]


def _change(environment: Environment, pin: Pin, title: str) -> None:
    environment.put(environment.changed(pin.wheel))
    settle()
    try:
        built = environment.build()
    except CommandFailed as error:
        say(f"one pin changed: {title}: {error}")
        return
    pin.builds.append(built)
    say(f"one pin changed: {title}: {built.done.seconds:.2f} s")


def sample(environment: Environment) -> list[Wheel]:
    """Return packages of all sizes: all of a short list, and some of a long one."""
    ordered = environment.by_size()
    count = len(ordered) if environment.name == "small" else environment.bench.sample
    return [ordered[place] for place in spread(len(ordered), count)]


def details(environment: Environment, pins: Sequence[Pin], others: Sequence[Result]) -> str:
    """Return the table of all pins, and of how they do against what one would do instead."""
    runs = max(len(pin.builds) for pin in pins)
    rows = [
        [
            pin.wheel.name,
            megabytes(pin.wheel.size),
            f"{pin.median:.2f}",
            *(f"{pin.step(step):.2f}" for step in _STEPS),
            f"{pin.median - sum(pin.step(step) for step in _STEPS):.2f}",
        ]
        for pin in pins
    ]
    count = len(environment.lock.wheels)
    return "\n".join(
        [
            section(
                f"One pin of {count} changed ({len(pins)} pins, median of {runs} runs each)",
                table(["way", "median s", "p90 s", "worst s", "pins", "against envlock"], _ways(pins, others)),
                *(f"{other.name}: {one_line(other.error)}\n" for other in others if other.error),
            ),
            section(
                "Each of these pins, with envlock",
                table(["package", "wheel MB", "seconds", *_STEPS, "start and end"], rows),
            ),
        ]
    )


def _ways(pins: Sequence[Pin], others: Sequence[Result]) -> Iterable[list[str]]:
    medians = [pin.median for pin in pins]
    own = statistics.median(medians)
    yield _row("envlock build", medians, own)
    for other in others:
        if other.runs:
            yield _row(other.name, other.seconds, own)


def _row(name: str, seconds: Sequence[float], own: float) -> list[str]:
    median = statistics.median(seconds)
    figures = [f"{value:.2f}" for value in (median, percentile(seconds, 0.9), max(seconds))]
    return [name, *figures, str(len(seconds)), f"{median / own:.1f}x"]


def by_rivals(environment: Environment, ways: Sequence[Rival]) -> list[Result]:
    """Change a few pins the other ways: each does everything again, whichever pin it is."""
    many = len(environment.lock.wheels) > _LARGE
    found = []
    for rival in ways:
        result = Result(name=rival.name)
        ordered = environment.by_size()
        count = (_RIVAL_PINS if many else _RIVAL_PINS_SMALL)[rival.tool]
        for place in spread(len(ordered), count + 2)[1:-1]:
            _change_with(rival, environment, ordered[place], result)
        rival.require(environment.lock)
        found.append(result)
    return found


def _change_with(rival: Rival, environment: Environment, wheel: Wheel, result: Result) -> None:
    rival.forget_changed()
    rival.require(environment.changed(wheel))
    settle()
    try:
        result.runs.append(rival.build())
    except CommandFailed as error:
        result.error = str(error)
        say(f"one pin changed: {rival.name}, {wheel.name}: {error}")
        return
    say(f"one pin changed: {rival.name}, {wheel.name}: {result.seconds[-1]:.2f} s")
