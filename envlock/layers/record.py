"""RECORD, the list of a distribution's files (PEP 376, binary distribution format), read and written as pip does."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_CHECKED = {"sha256", "sha384", "sha512"}  # what the format allows; others are not worth a look


class Row(NamedTuple):
    """One file: its path (relative to site-packages), hash ("sha256=…") and size, both perhaps empty."""

    path: str
    hash: str
    size: str


def parse_record(text: str) -> list[Row]:
    """Read a RECORD."""
    rows = csv.reader(text.splitlines())
    return [Row(*[*row, "", "", ""][:3]) for row in rows if row]


def dump_record(rows: Iterable[Row]) -> bytes:
    """Write a RECORD, sorted, with the line ends that pip leaves."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(sorted(rows))
    return text.getvalue().encode()


def hash_of(content: bytes) -> str:
    """Return a RECORD's hash of a file."""
    return encoded("sha256", hashlib.sha256(content).digest())


def encoded(algorithm: str, digest: bytes) -> str:
    """Return a digest as a RECORD has it: URL-safe base64 without padding."""
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def checkable(text: str) -> str | None:
    """Return the algorithm of a RECORD's hash where it is one to check, else None."""
    algorithm, _, digest = text.partition("=")
    return algorithm if digest and algorithm in _CHECKED else None


def installed_rows(
    shipped: Iterable[Row], installed: Mapping[str, str], *, changed: Mapping[str, Row], generated: Iterable[Row]
) -> list[Row]:
    """Return the rows that pip writes after an installation.

    ``installed`` maps each file's path in the wheel to its path as installed, compiled files included; ``changed`` has
    the new rows of files that are not as the wheel had them, by path as installed.
    """
    left = dict(installed)
    rows = []
    for row in shipped:
        path = left.pop(row.path, row.path)
        rows.append(changed.get(path) or Row(path, row.hash, row.size))
    rows.extend(generated)
    rows.extend(Row(path, "", "") for path in left.values())
    return rows
