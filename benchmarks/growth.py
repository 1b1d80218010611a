"""One pin changed in environments of several sizes: with an engine, and straight to a registry.

An engine keeps what it has unpacked by the stack of layers below it, so it unpacks what lies above a changed layer
again. How much that is comes with the seconds. A registry keeps each layer by itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.bench import percentile, spread
from benchmarks.engines import LABEL
from benchmarks.environments import Built, Environment
from benchmarks.measure import CommandFailed, say, settle
from benchmarks.pins import Pin
from benchmarks.registry import registry
from benchmarks.tables import megabytes, section, table

_SAME = 5  # pins that environments are compared by


@dataclass(kw_only=True)
class _Place:
    """One environment; what was measured in it, by package."""

    environment: Environment
    repository: str
    engine: dict[str, list[Built]] = field(default_factory=dict)
    registry: dict[str, list[Built]] = field(default_factory=dict)
    again: dict[str, list[str]] = field(default_factory=dict)  # the layers that the engine had to unpack

    def change(self, name: str) -> None:
        """Change a pin both ways, each time to a version that nobody has seen."""
        environment = self.environment
        wheel = next(wheel for wheel in environment.lock.wheels if wheel.name == name)
        environment.put(environment.changed(wheel))
        settle()
        built = environment.build()
        self.again[name] = self._unpacked(built)
        self.engine.setdefault(name, []).append(built)
        environment.put(environment.changed(wheel))
        settle()
        self.registry.setdefault(name, []).append(self.push())
        say(
            f"growth: {environment.name}, {name}: {built.done.seconds:.2f} s to the engine,"
            f" {self.registry[name][-1].done.seconds:.2f} s to the registry"
        )

    def push(self) -> Built:
        return self.environment.build("--engine", "none", "--push", "--tag", self.repository)

    def _unpacked(self, built: Built) -> list[str]:
        engine = self.environment.bench.engine
        before, now = engine.layers(self.environment.image), engine.layers(built.image)
        same = next((n for n, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), len(now))
        sizes = self.environment.layer_sizes()
        layers = now[same:]
        return [str(len(layers)), megabytes(sum(sizes.get(layer, 0) for layer in layers))]


def growth(environments: Sequence[Environment], pins: dict[str, list[Pin]], *, runs: int) -> str:
    """Return the tables, smallest environment first; ``pins`` has what was measured in each, by its name."""
    names = set.intersection(*({wheel.name for wheel in one.lock.wheels} for one in environments))
    common = [wheel for wheel in environments[0].by_size() if wheel.name in names]
    same = [common[place].name for place in spread(len(common), _SAME)] if common else []
    bench = environments[0].bench
    with registry(bench.folder) as (host, port):
        path = f"{host}:{port}/{LABEL}/{bench.mark}"
        places = [_Place(environment=one, repository=f"{path}/{one.name}:latest") for one in environments]
        for place in places:
            place.environment.put(place.environment.lock)
            with suppress(CommandFailed):
                place.push()
        # In turn, so that a moment in which the machine is slow is in all of them.
        for _ in range(runs):
            for name in same:
                for place in places:
                    with suppress(CommandFailed):
                        place.change(name)
    bench.engine.remove([built.image for place in places for found in place.engine.values() for built in found])
    sizes = [_size(one, pins[one.name]) for one in environments if pins.get(one.name)]
    head = ["list", "packages", "wheels MB", "unpacked MB", "median s", "p90 s", "worst s"]
    return "\n".join(
        [
            section("One pin changed, by the size of the environment", table(head, sizes)),
            section(
                f"The same pins in each, into the engine: seconds (layers and MB that it unpacks; median of {runs})",
                table(["list", *same], [[one.environment.name, *_into_engine(one, same)] for one in places]),
            ),
            section(
                f"The same pins in each, without an engine and pushed: seconds (median of {runs})",
                table(["list", *same], [[one.environment.name, *_pushed(one, same)] for one in places]),
            ),
        ]
    )


def _into_engine(place: _Place, names: Sequence[str]) -> list[str]:
    return [
        f"{_median(place.engine[name])} ({', '.join(place.again[name])})" if name in place.engine else "failed"
        for name in names
    ]


def _pushed(place: _Place, names: Sequence[str]) -> list[str]:
    return [_median(place.registry[name]) if name in place.registry else "failed" for name in names]


def _median(builds: Sequence[Built]) -> str:
    return f"{statistics.median(built.done.seconds for built in builds):.2f}"


def _size(environment: Environment, pins: Sequence[Pin]) -> list[str]:
    medians = [pin.median for pin in pins]
    figures = (statistics.median(medians), percentile(medians, 0.9), max(medians))
    return [
        environment.name,
        str(len(environment.lock.wheels)),
        megabytes(sum(wheel.size for wheel in environment.lock.wheels)),
        megabytes(environment.unpacked()),
        *(f"{figure:.2f}" for figure in figures),
    ]
