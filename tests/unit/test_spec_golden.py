"""Every folder of tests/golden/spec: a spec in, and what becomes of it out.

expected.txt has the faults, expected.json what a good spec asks for. ENVLOCK_TEST_WRITE_GOLDEN=1 writes them anew: then
read the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from envlock.errors import SpecError
from envlock.formats.requested import read_requested
from envlock.formats.structure import to_plain

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "spec"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def outcome(folder: Path) -> tuple[str, str]:
    def read(path: str) -> bytes:
        return (folder / path).read_bytes()

    try:
        requested = read_requested(read("envlock.yaml"), read=read)
    except SpecError as error:
        return "expected.txt", "".join(f"{detail}\n" for detail in error.details)
    plain = to_plain(requested)
    plain["keys"] = {name: key.decode() for name, key in requested.keys.items()}
    return "expected.json", json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_a_spec_becomes_what_is_expected(case):
    folder = GOLDEN / case
    name, text = outcome(folder)
    if os.environ.get("ENVLOCK_TEST_WRITE_GOLDEN"):
        for stale in ("expected.txt", "expected.json"):
            (folder / stale).unlink(missing_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    assert (folder / name).is_file(), f"{case} ended as {name}:\n{text}"
    assert text == (folder / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_no_secret_is_repeated(case):
    assert "secret@" not in outcome(GOLDEN / case)[1]
    assert ":secret" not in outcome(GOLDEN / case)[1]


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("bad-")])
def test_every_fault_says_where_it_is(case):
    _, text = outcome(GOLDEN / case)
    for line in text.splitlines():
        place = line.split(": ")[0]
        assert place.count(":") == 2 or case == "bad-empty", line
