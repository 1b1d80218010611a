"""Markdown tables of what was measured."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Sequence

from benchmarks.measure import Result

_DIGITS = ((0, 100), (1, 10), (2, 1), (3, 0.0005))  # after the point, from which value on


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is text, and whose other columns are numbers."""
    lines = ["|".join(["", *head, ""]), "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def section(title: str, *parts: str) -> str:
    """Return a heading and what is below it."""
    return "\n".join([f"### {title}", "", *parts])


def comparison(title: str, results: Sequence[Result]) -> str:
    """Return a table of ways, the first being the one that the others are held against."""
    own = results[0].median if results and results[0].runs else None
    rows = []
    for result in results:
        if not result.runs:
            rows.append([result.name, "—", "failed", "—", "—"])
            continue
        ratio = f"{result.median / own:.1f}x" if own else "—"
        numbers = [f"{number:.2f}" for number in (min(result.seconds), result.median, max(result.seconds))]
        rows.append([f"{result.name} ({len(result.runs)} runs)", *numbers, ratio])
    failed = [f"{result.name}: {one_line(result.error)}\n" for result in results if result.error]
    return section(title, table(["way", "min s", "median s", "max s", "against envlock"], rows), *failed)


def peaks(results: dict[str, int]) -> str:
    """Return the table of peak memory, by what was done."""
    # A process starts as a copy of this one, and its peak counts from there.
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    rows = [[name, f"{'≤ ' if peak <= floor else ''}{peak / 1e6:.0f}"] for name, peak in results.items()]
    return section("Peak memory of envlock (largest process)", table(["what", "MB"], rows))


def megabytes(count: float) -> str:
    """Return a number of bytes in MB, with three digits that mean something."""
    value = count / 1e6
    return next((f"{value:,.{digits}f}" for digits, least in _DIGITS if value >= least), "0")


def one_line(text: str) -> str:
    """Return the end of a message, which says why."""
    return " ".join(text.split())[-300:]
