"""Building: with nothing changed, one pin changed, from warm wheels, and from nothing; what is sent, and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks import growth, pins, tables, traffic
from benchmarks.bench import Bench
from benchmarks.environments import Environment
from benchmarks.measure import CommandFailed, Done, Result, Way, compare, say
from benchmarks.rivals import Rival, rivals

PARTS = ("cold", "same", "pin", "warm", "bytes", "growth")
_ENVLOCK = "envlock build"
_HEAVY = ("full", "cuda")  # lists that take minutes from nothing


def main(bench: Bench, lists: dict[str, Sequence[str]], parts: Sequence[str]) -> Iterator[str]:
    """Yield the tables as they are ready; a part that fails says so, and the others follow."""
    yield _about(bench)
    say("locking")
    job = _Job(bench, Environment(bench, bench.name, lists[bench.name]))
    others = {name: packages for name, packages in lists.items() if name != bench.name}
    steps: dict[str, Callable[[], str]] = {
        "cold": job.cold,  # always first: it is also what fills the caches
        "same": job.same,
        "pin": job.pin,
        "warm": job.warm,
        "bytes": job.bytes,
        "growth": lambda: job.growth(others),
    }
    for name, step in steps.items():
        if name == "cold" or name in parts:
            try:
                text = step()
            except (CommandFailed, OSError, ValueError) as error:
                say(f"{name}: {error}")
                text = tables.section(f"{name}: failed", tables.one_line(str(error)) + "\n")
            if name in parts:
                yield text
    yield tables.peaks(job.peaks)


class _Job:
    """The parts, in one environment, with envlock and with what one would do instead."""

    def __init__(self, bench: Bench, environment: Environment) -> None:
        self._bench = bench
        self._environment = environment
        self._rivals = rivals(environment)
        self._pins: list[pins.Pin] = []
        self.peaks: dict[str, int] = {}

    def cold(self) -> str:
        """Build with no caches at all, but with the base in the engine. What fails here is left out from then on."""
        title = "No caches, wheels fetched as well"
        ways = [
            Way(name=_ENVLOCK, run=self._environment.build_own, prepare=self._environment.forget_all),
            *(Way(name=rival.name, run=_uncached(rival), prepare=rival.forget_cold) for rival in self._rivals),
        ]
        results = self._compare(title, ways, runs=1 if self._bench.name in _HEAVY else self._bench.runs)
        self._rivals = [rival for rival, result in zip(self._rivals, results[1:], strict=True) if not result.error]
        return tables.comparison(title, results)

    def same(self) -> str:
        """Build again with nothing changed."""
        for way in self._ways():
            way.run()  # once unmeasured: everything is there
        title = "Nothing changed"
        return tables.comparison(title, self._compare(title, self._ways(), runs=max(self._bench.runs, 5)))

    def pin(self) -> str:
        """Change one pin at a time."""
        self._environment.build_own()
        self._pins = pins.measure(self._environment, pins.sample(self._environment), runs=self._bench.runs)
        if not self._pins:
            raise CommandFailed("no pin could be changed")
        self.peaks["one pin changed"] = max(built.done.peak for pin in self._pins for built in pin.builds)
        return pins.details(self._environment, self._pins, pins.by_rivals(self._environment, self._rivals))

    def warm(self) -> str:
        """Make all layers again, from wheels that are there."""
        title = "All layers, from warm wheels"
        ways = [
            Way(name=_ENVLOCK, run=self._environment.build_own, prepare=self._environment.forget_layers),
            *(
                Way(name=f"{rival.name}, --no-cache, warm mount", run=_uncached(rival), prepare=rival.forget_changed)
                for rival in self._rivals
                if rival.tool == "uv"
            ),
        ]
        results = self._compare(title, ways, runs=self._bench.runs)
        return tables.comparison(title, results) + self._shared()

    def bytes(self) -> str:
        """Count what goes over the lines."""
        text, self.peaks["one pin changed, and pushed"] = traffic.main(self._environment, self._rivals)
        return text

    def growth(self, lists: dict[str, Sequence[str]]) -> str:
        """Change one pin in environments of other sizes as well."""
        environments = [self._environment]
        measured = {self._environment.name: self._pins or self._measured(self._environment)}
        for name, packages in lists.items():
            say(f"locking {name}")
            environments.append(Environment(self._bench, name, packages))
            measured[name] = self._measured(environments[-1])
        environments.sort(key=lambda one: sum(wheel.size for wheel in one.lock.wheels))
        return growth.growth(environments, measured, runs=self._bench.runs)

    def _measured(self, environment: Environment) -> list[pins.Pin]:
        environment.build_own()
        return pins.measure(environment, pins.sample(environment), runs=self._bench.runs)

    def _ways(self) -> list[Way]:
        return [
            Way(name=_ENVLOCK, run=self._environment.build_own),
            *(Way(name=rival.name, run=rival.build) for rival in self._rivals),
        ]

    def _compare(self, title: str, ways: Sequence[Way], *, runs: int) -> list[Result]:
        results = compare(title, ways, runs=runs)
        if results[0].runs:
            self.peaks[title[0].lower() + title[1:]] = results[0].peak
        return results

    def _shared(self) -> str:
        """Say where the engine had some of the layers all the same, because another image has them."""
        engine, image = self._bench.engine, self._environment.image
        own, base = engine.layers(image), len(self._environment.lock.base.diff_ids)
        most = 0
        for other in engine.run("images", "--quiet", "--no-trunc").stdout.split():
            if other != image:
                layers = engine.layers(other)
                most = max(most, next((n for n, (a, b) in enumerate(zip(own, layers, strict=False)) if a != b), 0))
        # The lowest one, with the environment's own folders, is the same in all images of one base.
        return (
            f"\nThe engine had {most - base} of the {len(own) - base} layers from other images.\n"
            if most > base + 1
            else ""
        )


def _uncached(rival: Rival) -> Callable[[], Done]:
    return lambda: rival.build(cache=False)


def _about(bench: Bench) -> str:
    engines = f"engine {bench.engine.version()}"
    engines += f"; BuildKit in engine {bench.second.version()}" if bench.second else "; no engine with BuildKit here"
    return f"{engines}; pip and uv get every pin and resolve nothing (`--no-deps`), and compile bytecode\n"
