"""A resolver's own explanation of a conflict, without what surrounds it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envlock.errors import EnvlockError, Unresolvable, WorldError

_MOST = 24  # lines
_LONGEST = 400  # characters of one line
_NOISE = re.compile(
    r"\s*(?:Traceback \(most recent call last\)|File \"|During handling|The above exception|raise |\[notice\]|DEBUG|"
    r"Looking in indexes|WARNING: Retrying|To fix this you could|\d\. (?:loosen|remove)|"
    r"  (?:warnings\.|return |self\.)).*"
)
_START = re.compile(
    r"(?:ERROR: |CRITICAL: )?(?:The conflict is caused by|Could not find a version|Cannot install|"
    r"No matching distribution|Ignored the following|Because |ResolutionImpossible|"
    r".*No solution found|.*has invalid metadata)",
    re.IGNORECASE,
)
_PLACE = re.compile(r"-[rc] \S*?/(requirements\.in|constraints\.txt|requirements\.txt)(?:\s*\(line (\d+)\))?")
_PLACES = {"requirements.in": "the spec", "constraints.txt": "a constraint", "requirements.txt": "the lock so far"}


def failure(program: str, *texts: str, requirements: Sequence[str] = ()) -> EnvlockError:
    """Return the error for what a resolver wrote (to stderr, to stdout) before it ended with a failure."""
    explained = [line for text in texts for line in shortened(text, requirements=requirements)]
    if explained:
        return Unresolvable("the Python requirements cannot all be met", details=list(dict.fromkeys(explained)))
    return WorldError(f"{program} failed", details=texts[0].strip().splitlines()[-_MOST:])


def shortened(text: str, *, requirements: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the lines that explain, each once, without the names of our temporary files; none of a crash."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in text.splitlines()]
    starts = [number for number, line in enumerate(lines) if _START.match(line.strip())]
    if not starts:
        return ()
    shown: dict[str, None] = {}
    for line in lines[starts[0] :]:
        if line.startswith("Traceback (most recent"):
            break
        if not line.strip() or _NOISE.fullmatch(line):
            continue
        bare = re.sub(r"^\s*(?:ERROR|CRITICAL): ", "", line)
        shown.setdefault(_cut(_PLACE.sub(lambda found: _said(found[1], found[2], requirements), bare)))
    found = list(shown)
    return tuple([*found[: _MOST - 1], f"… and {len(found) - _MOST + 1} more lines"] if len(found) > _MOST else found)


def _said(file: str, line: str | None, requirements: Sequence[str]) -> str:
    """Return a requirement itself instead of the place where we wrote it down."""
    if file == "requirements.in" and line and int(line) <= len(requirements):
        return requirements[int(line) - 1]
    return _PLACES[file]


def _cut(line: str) -> str:
    """Return a line that a person may read to its end: pip lists all versions that there are, oldest first."""
    if len(line) <= _LONGEST:
        return line
    versions = re.search(r"\(from versions: (.*)\)", line)
    if versions:
        newest = ", ".join(versions[1].split(", ")[-8:])
        return line[: versions.start()] + f"(from versions: …, {newest})"
    return line[: _LONGEST - 1] + "…"
