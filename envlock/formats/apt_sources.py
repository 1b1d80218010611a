"""apt's own list of repositories: sources.list(5), in both its forms, read, named and written again.

A base's repositories are named by suite, so that a lock can say where a file comes from without naming a host. The same
files give the same names again: from them a build finds the hosts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from envlock.formats.debian import DebianFormatError, paragraphs

# Options of the one-line form and the deb822 fields that mean the same (sources.list(5)).
_OPTIONS = {
    "allow-downgrade-to-insecure": "allow-downgrade-to-insecure",
    "allow-insecure": "allow-insecure",
    "allow-weak": "allow-weak",
    "arch": "architectures",
    "by-hash": "by-hash",
    "check-date": "check-date",
    "check-valid-until": "check-valid-until",
    "date-max-future": "date-max-future",
    "exclude": "exclude",
    "include": "include",
    "inrelease-path": "inrelease-path",
    "lang": "languages",
    "pdiffs": "pdiffs",
    "signed-by": "signed-by",
    "snapshot": "snapshot",
    "target": "targets",
    "trusted": "trusted",
    "valid-until-max": "valid-until-max",
    "valid-until-min": "valid-until-min",
}
_FIELDS = frozenset(_OPTIONS.values())
_LISTS = {"architectures", "languages", "targets"}  # which have -add and -remove variants
_FILE = re.compile(r"sources\.list|sources\.list\.d/[A-Za-z0-9_.-]+\.(?:list|sources)")
_LINE = re.compile(r"(deb|deb-src)\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+\S+)*)")
_OPTION = re.compile(r"([A-Za-z0-9-]+)([+-]?)=(\S+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceEntry:
    """One repository: a URI and a suite."""

    file: str  # relative to /etc/apt
    uri: str  # without a slash at its end
    suite: str  # ends with "/" for a flat repository, which has no components
    components: tuple[str, ...]
    options: Mapping[str, str]  # deb822 field in lower case → value
    name: str = ""

    @property
    def reachable(self) -> bool:
        """Return whether its files come over HTTP: a CD, a folder or a mirror list is nothing to lock by."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def release_urls(self) -> tuple[str, ...]:
        """Return where its Release file is, the signed one first."""
        folder = f"{self.uri}/{self.suite}" if self.suite.endswith("/") else f"{self.uri}/dists/{self.suite}/"
        return f"{folder}InRelease", f"{folder}Release"


def read_sources(
    files: Mapping[str, bytes], *, architecture: str, reserved: Collection[str] = ()
) -> tuple[SourceEntry, ...]:
    """Read a base's repositories from the files below /etc/apt, in apt's own order, each URI and suite once and named.

    ``reserved`` names are not given away. Raises ``DebianFormatError`` with file and line.
    """
    entries: list[SourceEntry] = []
    for file in sorted(filter(_FILE.fullmatch, files), key=lambda name: (name != "sources.list", name)):
        text = files[file].decode("utf-8", "replace")
        try:
            found = _read_deb822(text, file) if file.endswith(".sources") else _read_lines(text, file)
            entries += (_expanded(entry, architecture) for entry in found)
        except DebianFormatError as error:
            raise DebianFormatError(f"/etc/apt/{file}: {error}") from error
    return tuple(_named(_merged(entries), reserved))


def _expanded(entry: SourceEntry, architecture: str) -> SourceEntry:
    uri, suite = (text.replace("$(ARCH)", architecture) for text in (entry.uri, entry.suite))
    return replace(entry, uri=uri.rstrip("/"), suite=suite)


def _merged(entries: Iterable[SourceEntry]) -> Iterator[SourceEntry]:
    """Merge what only differs in its components, as in lines that add contrib to what is there."""
    merged: dict[tuple[object, ...], SourceEntry] = {}
    for entry in entries:
        key = (entry.uri, entry.suite, tuple(sorted(entry.options.items())))
        before = merged.get(key)
        components = (*before.components, *entry.components) if before else entry.components
        merged[key] = replace(before or entry, components=tuple(dict.fromkeys(components)))
    yield from merged.values()


def _named(entries: Iterable[SourceEntry], reserved: Collection[str]) -> Iterator[SourceEntry]:
    names: dict[tuple[str, str], str] = {}
    taken = set(reserved)
    for entry in entries:
        place = (entry.uri, entry.suite)
        if place not in names:
            names[place] = next(name for name in _candidates(entry) if name not in taken)
            taken.add(names[place])
        yield replace(entry, name=names[place])


def _candidates(entry: SourceEntry) -> Iterator[str]:
    if not entry.suite.endswith("/"):
        yield entry.suite
    stem = PurePosixPath(entry.file).stem
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def _read_lines(text: str, file: str) -> Iterator[SourceEntry]:
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        match = _LINE.fullmatch(line)
        if match is None:
            if line:
                raise DebianFormatError(f"line {number}: not a repository ('deb [option=value] URI suite component')")
            continue
        kind, options, uri, suite, components = match.groups()
        if kind == "deb":
            yield SourceEntry(
                file=file,
                uri=uri,
                suite=suite,
                components=tuple(components.split()),
                options=dict(_read_options(options or "", number)),
            )


def _read_options(text: str, number: int) -> Iterator[tuple[str, str]]:
    for word in text.split():
        match = _OPTION.fullmatch(word)
        if match is None:
            raise DebianFormatError(f"line {number}: {word!r} is not an option")
        name, sign, value = match.groups()
        field = _OPTIONS.get(name.lower())
        if field is not None:  # apt skips those that it does not know, too
            suffix = {"+": "-add", "-": "-remove", "": ""}[sign]
            yield field + suffix, value.replace(",", " ") if field in _LISTS else value


def _read_deb822(text: str, file: str) -> Iterator[SourceEntry]:
    known = _FIELDS | {f"{name}-{verb}" for name in _LISTS for verb in ("add", "remove")}
    for fields in paragraphs(text):
        if fields.get("enabled", "yes").lower() in {"no", "false", "without", "off", "disable", "0"}:
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield SourceEntry(
                    file=file,
                    uri=uri,
                    suite=suite,
                    components=tuple(fields.get("components", "").split()),
                    options={name: value for name, value in fields.items() if name in known},
                )


def render_source(entry: SourceEntry, *, uri: str) -> str:
    """Write an entry as a paragraph of a .sources file, with another URI in the place of its own."""
    lines = ["Types: deb", f"URIs: {uri}", f"Suites: {entry.suite}"]
    if entry.components:
        lines.append(f"Components: {' '.join(entry.components)}")
    lines += (f"{name.title()}: {value}" for name, value in sorted(entry.options.items()))
    return "\n".join(lines) + "\n"


# --- snapshots --------------------------------------------------------------------------------------------------------

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?:Z|\+00:00)?)?")


def snapshot_timestamp(as_of: str) -> str:
    """Return an ISO 8601 date or date-time in UTC as snapshot services write it (``20260131T000000Z``).

    A date means its first moment. Raises ``ValueError``.
    """
    match = _DATE.fullmatch(as_of)
    if match is None:
        raise ValueError(f"{as_of!r} is not a date (2026-01-31) or a date and time in UTC (2026-01-31T12:00:00Z)")
    year, month, day, hour, minute, second = (part or "00" for part in match.groups())
    return f"{year}{month}{day}T{hour}{minute}{second}Z"


def snapshot_template(release: str) -> str | None:
    """Return the snapshot service that a Release file names (its ``Snapshots`` field), if it does."""
    template = next(iter(paragraphs(release)), {}).get("snapshots", "")
    return template if template.startswith(("http://", "https://")) and "@SNAPSHOTID@" in template else None


def snapshot_uri(template: str, *, timestamp: str, uri: str) -> str:
    """Fill a template in: ``{timestamp}`` (or apt's ``@SNAPSHOTID@``), and ``{archive}``, the last part of ``uri``.

    One template serves several archives of a distribution that way: ``…/archive/{archive}/{timestamp}``.
    """
    archive = uri.rstrip("/").rpartition("/")[2]
    filled = template.replace("@SNAPSHOTID@", timestamp).replace("{timestamp}", timestamp)
    return filled.replace("{archive}", archive).rstrip("/")
