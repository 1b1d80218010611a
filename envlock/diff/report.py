"""A comparison for people, for programs and for pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from envlock.diff.compare import GROUPS, arrow, jump
from envlock.formats.display import one_line
from envlock.formats.templates import render
from envlock.model.environment import Change, Comparison, Environment

TITLES = {
    "platform": "Platform",
    "python": "Python",
    "cuda": "CUDA",
    "pip": "Python packages",
    "seeds": "Seeds",
    "apt": "System packages",
    "env": "Environment variables",
    "os": "Operating system",
    "base": "Base image",
    "labels": "Labels",
}
_HIGH, _MIDDLE = 60, 30
_LONGEST = 200  # characters of one value in a table
_BOLD, _RED, _YELLOW, _DIM, _PLAIN = "\033[1m", "\033[31m", "\033[33m", "\033[2m", "\033[0m"


def as_text(comparison: Comparison, *, colour: bool = False) -> str:
    """Return the report for a terminal: verdict, the two sides, then groups, the worst suspect's first."""
    paint = _paint if colour else _leave
    before, after = comparison.before, comparison.after
    lines = [paint(comparison.verdict, _BOLD), "", f"  before  {_side(before)}", f"  after   {_side(after)}"]
    for group, changes in _groups(comparison.changes):
        names = [one_line(change.name) for change in changes]
        width = max(map(len, names))
        values = [arrow(change) for change in changes]
        across = max(map(len, values))
        lines += ["", f"{TITLES[group]} ({len(changes)})"]
        for change, name, value in zip(changes, names, values, strict=True):
            line = f"  {_sign(change)} {name:<{width}}  {value:<{across}}  {jump(change)}"
            lines.append(paint(line.rstrip(), _colour(change)))
    if comparison.unknown:
        lines += ["", *_unknown(comparison)]
    return "\n".join(lines) + "\n"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the report for programs; the README documents its members."""
    return {
        "same": comparison.same,
        "verdict": comparison.verdict,
        "before": _side_json(comparison.before),
        "after": _side_json(comparison.after),
        "changes": [
            {
                "group": change.group,
                "name": change.name,
                "before": change.before,
                "after": change.after,
                "jump": change.jump,
                "downgrade": change.downgrade,
                "weight": change.weight,
            }
            for change in comparison.changes
        ],
        "unknown": list(comparison.unknown),
    }


def as_markdown(comparison: Comparison) -> str:
    """Return the report for a pull request."""
    groups = [
        {
            "title": TITLES[group],
            "rows": [
                {
                    "name": _code(change.name),
                    "before": _code(change.before) if change.before is not None else "—",
                    "after": _code(change.after) if change.after is not None else "—",
                    "jump": jump(change),
                    "high": change.weight >= _HIGH,
                }
                for change in changes
            ],
        }
        for group, changes in _groups(comparison.changes)
    ]
    return render(
        "diff.md.j2",
        verdict=_escape(comparison.verdict),
        before=_side_markdown(comparison.before),
        after=_side_markdown(comparison.after),
        groups=groups,
        unknown=[_escape(line) for line in _unknown(comparison)] if comparison.unknown else [],
    )


def _groups(changes: Sequence[Change]) -> Iterator[tuple[str, list[Change]]]:
    """Yield the groups in the order of their worst suspect, and in each the worst first."""
    order = list(dict.fromkeys(change.group for change in changes))
    by_group = sorted(changes, key=lambda change: order.index(change.group))
    for group, members in groupby(by_group, key=lambda change: change.group):
        yield group, list(members)


def _unknown(comparison: Comparison) -> Iterator[str]:
    for environment in (comparison.before, comparison.after):
        unknown = [group for group in GROUPS if group in comparison.unknown and getattr(environment, group) is None]
        silent = [TITLES[group] for group in unknown]
        if silent:
            side = f"{environment.kind} {one_line(environment.title)}"
            yield f"not compared, because the {side} does not say: {', '.join(silent)}"


def _side(environment: Environment) -> str:
    name = f"  fingerprint {environment.fingerprint[:12]}" if environment.fingerprint else ""
    return f"{environment.kind} {one_line(environment.title)}{name}"


def _side_json(environment: Environment) -> dict[str, Any]:
    return {
        "ref": environment.title,
        "kind": environment.kind,
        "fingerprint": environment.fingerprint,
        "image": dict(environment.image),
    }


def _side_markdown(environment: Environment) -> str:
    name = f", fingerprint {_code(environment.fingerprint[:12])}" if environment.fingerprint else ""
    return f"{environment.kind} {_code(environment.title)}{name}"


def _sign(change: Change) -> str:
    return {"added": "+", "removed": "-"}.get(change.jump, "↓" if change.downgrade else "~")


def _colour(change: Change) -> str:
    return _RED if change.weight >= _HIGH else _YELLOW if change.weight >= _MIDDLE else _DIM


def _paint(text: str, colour: str) -> str:
    return f"{colour}{text}{_PLAIN}"


def _leave(text: str, colour: str) -> str:  # noqa: ARG001
    return text


def _code(value: str) -> str:
    """Return a value as code in a table cell; GitHub reads ``|`` as the end of a cell even inside of code."""
    line = " ".join(one_line(value, longest=_LONGEST).split())
    runs = [len(run) for run in re.findall(r"`+", line)]
    fence = "`" * (max(runs, default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|") if line else "(empty)"


def _escape(text: str) -> str:
    """Return a text in which nothing is markup (CommonMark §2.4), nor a mention."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|~>-])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace("@", "&#64;")
