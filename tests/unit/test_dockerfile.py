"""Plans as Dockerfiles: goldens, hadolint, and what a builder reads in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envlock.errors import LockError
from envlock.formats.dockerfile import dockerfile
from envlock.formats.structure import from_plain, to_plain
from envlock.model.lock import Lock
from envlock.model.plan import Plan, Project, ProjectFile, ProjectLayer
from envlock.plan import make_plan
from tests.support.locks import make_lock

GOLDEN = Path(__file__).parent.parent / "golden" / "dockerfile"
CASES = sorted(path.name for path in GOLDEN.iterdir())
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
FINGERPRINT = "0123456789abcdef" * 4


def merged(plain: Any, changes: Any) -> Any:
    if not isinstance(plain, Mapping) or not isinstance(changes, Mapping) or "env" not in {*plain, *changes, "env"}:
        return changes
    return {**plain, **{name: merged(plain.get(name, {}), value) for name, value in changes.items()}}


def read_case(name: str) -> Plan:
    changes = json.loads((GOLDEN / name / "lock.json").read_text("utf-8"))
    plain = to_plain(make_lock())
    for replaced in ("env", "seeds", "project", "image"):
        plain[replaced] = {} if replaced in changes else plain[replaced]
    if "env" in changes.get("base", {}):
        plain["base"]["env"] = {}
    lock = from_plain(Lock, merged(plain, changes))
    project = GOLDEN / name / "project.json"
    state = from_plain(Project, json.loads(project.read_text("utf-8"))) if project.exists() else Project()
    return make_plan(lock, state, fingerprint=FINGERPRINT, lock_text="")


def plan_with(**values: Any) -> Plan:
    lock = make_lock()
    image = {name: values.pop(name) for name in list(values) if hasattr(lock.image, name)}
    changed = replace(lock, image=replace(lock.image, **image), **values)
    return make_plan(changed, Project(), fingerprint=FINGERPRINT, lock_text="")


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    text = dockerfile(read_case(case))
    golden = GOLDEN / case / "Dockerfile"
    if os.environ.get("ENVLOCK_TEST_UPDATE"):
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")


@pytest.mark.parametrize("case", CASES)
def test_hadolint_has_nothing_to_say(case):
    command = [HADOLINT, "--no-color", GOLDEN / case / "Dockerfile"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("case", CASES)
def test_every_ignored_rule_has_a_reason_above_it(case):
    lines = (GOLDEN / case / "Dockerfile").read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if "hadolint ignore" in line:
            assert re.match(r"# [A-Z].*\.", lines[number - 1])


@pytest.mark.parametrize("case", CASES)
def test_only_what_the_classic_builder_knows(case):
    text = (GOLDEN / case / "Dockerfile").read_text("utf-8")
    instructions = {name for name, _ in read_dockerfile(text)}
    assert instructions <= {"ARG", "FROM", "USER", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT", "LABEL"}
    assert not re.search(r"--mount|--link|--network", text.split("\n\n", 1)[1])
    assert not re.match(r"#\s*\w+\s*=", text)  # a parser directive
    assert all("<<" not in rest for name, rest in read_dockerfile(text) if name in {"RUN", "COPY"})


# --- a builder's eye: lines, words, quotes and variables as Docker's own parser has them ----------------------------


def read_dockerfile(text: str) -> list[tuple[str, str]]:
    """Return (instruction, the rest of it)."""
    found: list[tuple[str, str]] = []
    current = ""
    for line in text.split("\n"):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        current += line.strip() if not current else line
        if re.search(r"\\[ \t]*$", current):
            current = re.sub(r"\\[ \t]*$", "", current)
            continue
        name, _, rest = current.strip().partition(" ")
        found.append((name, rest))
        current = ""
    assert not current
    return found


def words(rest: str) -> list[str]:
    """Split and unquote, with every variable that is expanded standing out as «name»."""
    found: list[str] = []
    word, quote, inside, place = "", "", False, 0
    while place < len(rest):
        character = rest[place]
        if character == "\\" and quote != "'":
            following = rest[place + 1 : place + 2]
            word += following if not quote or following in {'"', "$", "\\"} else "\\" + following
            place += 2
            inside = True
            continue
        if character in {'"', "'"} and quote in {"", character}:
            quote = "" if quote else character
            inside = True
        elif character == "$" and quote != "'":
            word += "«expanded»"
        elif character.isspace() and not quote:
            if inside:
                found.append(word)
            word, inside = "", False
        else:
            word += character
            inside = True
        place += 1
    assert not quote
    return [*found, word] if inside else found


def read_pairs(text: str, instruction: str) -> dict[str, str]:
    pairs = [word.partition("=") for name, rest in read_dockerfile(text) if name == instruction for word in words(rest)]
    return {name: value for name, _, value in pairs}


def one_line() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.just("\t"))


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), one_line() | st.text("$\"'\\ #a\t{}`")))
def test_a_builder_reads_each_environment_variable_as_it_was_meant(env):
    plan = plan_with(env={name: value for name, value in env.items() if name not in {"PATH", "VIRTUAL_ENV"}})
    assert read_pairs(dockerfile(plan), "ENV") == dict(plan.config.env)


@given(one_line())
def test_a_builder_reads_each_label_as_it_was_meant(value):
    plan = plan_with(labels={"org.example.a": value})
    assert read_pairs(dockerfile(plan), "LABEL") == dict(plan.config.labels)


@given(one_line().filter(lambda text: text.strip("/")))
def test_a_builder_reads_working_directory_and_entrypoint_as_they_were_meant(text):
    read = read_dockerfile(dockerfile(plan_with(workdir=f"/w{text}", entrypoint=("run", text))))
    assert words(dict(read)["WORKDIR"]) == [f"/w{text}"]
    assert json.loads(dict(read)["ENTRYPOINT"]) == ["run", text]


@given(one_line())
def test_a_builder_copies_the_project_to_the_working_directory(text):
    workdir = "/w" + text.rstrip("/")
    plan = plan_with(workdir=workdir)
    file = ProjectFile(path="a", executable=False, size=0, sha256="0" * 64)
    read = read_dockerfile(dockerfile(replace(plan, layers=(*plan.layers, ProjectLayer(files=(file,))))))
    _, _, copied = next(rest for name, rest in read if name == "COPY" and "project/" in rest).partition(" ")
    # Whichever form it has: the words are read as the shell would.
    target = json.loads(copied)[1] if copied.startswith("[") else copied.split(" ", 1)[1]
    assert "".join(unquoted(target)) == f"{workdir}/"


@settings(max_examples=40, deadline=None)
@given(one_line() | st.text("$\"'\\ `!*;&a{}"))
def test_the_shell_reads_the_interpreters_path_as_it_was_meant(text):
    plan = plan_with()
    base = replace(plan.base, python=replace(plan.base.python, executable=f"/{text}"))
    runs = [rest for name, rest in read_dockerfile(dockerfile(replace(plan, base=base))) if name == "RUN"]
    word, _, _ = next(run for run in runs if " -m venv " in run).rpartition(" -m venv ")
    assert subprocess.check_output(["sh", "-c", f"printf %s {word}"]).decode() == f"/{text}"


def unquoted(word: str) -> Iterator[str]:
    return (character for part in re.findall(r"\\(.)|([^\\$\"'])|(.)", word) for character in part[:2] if not part[2])


@pytest.mark.parametrize("bad", ["a\nRUN reboot", "a\r", "a\0", "a\x85b", "a\u2028b"])
@pytest.mark.parametrize("place", ["env", "labels", "workdir", "entrypoint", "executable", "reference", "user"])
def test_a_line_break_never_gets_into_an_instruction(bad, place):
    plan = plan_with()
    config, base = plan.config, plan.base
    changes = {
        "env": {"config": replace(config, env={"A": bad})},
        "labels": {"config": replace(config, labels={"a": bad})},
        "workdir": {"config": replace(config, workdir=f"/{bad}")},
        "entrypoint": {"config": replace(config, entrypoint=(bad,))},
        "user": {"config": replace(config, user=bad)},
        "executable": {"base": replace(base, python=replace(base.python, executable=bad))},
        "reference": {"base": replace(base, repository=bad)},
    }
    with pytest.raises(LockError):
        dockerfile(replace(plan, **changes[place]))


def test_a_line_break_in_a_comment_does_not_end_it():
    base = plan_with().base
    hostile = replace(
        base,
        os=replace(base.os, pretty_name="Debian\nRUN reboot"),
        python=replace(base.python, version="3.11\nRUN reboot"),
    )
    assert "\nRUN reboot" not in dockerfile(replace(plan_with(), base=hostile))


@pytest.mark.parametrize("name", ["A B", "A=B", "", "1A", "A\n", "Ä"])
def test_names_that_would_be_read_as_something_else_are_refused(name):
    plan = plan_with()
    with pytest.raises(LockError, match="cannot hold the name"):
        dockerfile(replace(plan, config=replace(plan.config, env={name: "x"})))
    with pytest.raises(LockError, match="cannot hold the name"):
        dockerfile(replace(plan, config=replace(plan.config, labels={f"{name}$": "x"})))


def test_another_name_for_the_base():
    plan = read_case("local-base")
    assert f"ARG BASE={plan.base.image_id}\nFROM ${{BASE}} AS base" in dockerfile(plan)
    assert "FROM sha256:1234 AS base" in dockerfile(plan, base="sha256:1234")
