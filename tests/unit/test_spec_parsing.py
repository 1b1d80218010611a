from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from envlock.errors import Fault, SpecError
from envlock.formats.spec_yaml import MAX_SIZE, parse_placed, parse_spec
from envlock.formats.yaml_nodes import MAX_NODES, compose
from envlock.model.spec import AptRequest

HEAD = 'name: demo\nbase: debian:bookworm-slim\npython: "3.11"\n'
FIELDS = st.sampled_from(
    ["name", "base", "python", "pip", "apt", "env", "seeds", "image", "project", "mlflow", "cuda", "x"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["numpy<3", "git=1.0", "3.11"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["packages", "url", "indexes", "seed", "tags"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def faults(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    return list(caught.value.details)


def faults_if_any(text: str | bytes) -> tuple[Fault, ...]:
    """Return the faults; whatever is raised but SpecError fails the test."""
    try:
        parse_spec(text)
    except SpecError as error:
        return error.faults or (Fault(file="", message=""),)
    return ()


@given(st.text())
def test_any_text_is_a_spec_or_a_spec_error(text):
    assert all(fault.message for fault in faults_if_any(text))


@given(st.text(alphabet="abc:-[]{},&*!|>%@`'\"#?~<= \n\t0.\\xU9"))
def test_text_that_is_nearly_yaml_is_a_spec_or_a_spec_error(text):
    assert all(fault.message for fault in faults_if_any(text))


@given(st.dictionaries(FIELDS, VALUES))
def test_any_yaml_is_a_spec_or_a_spec_error(document):
    assert all(fault.message for fault in faults_if_any(yaml.safe_dump(document, allow_unicode=True)))


@given(st.binary())
def test_any_bytes_are_a_spec_or_a_spec_error(data):
    assert all(fault.message for fault in faults_if_any(data))


@given(st.text(st.characters(codec="utf-8")))
def test_a_value_is_kept_to_the_letter_or_refused(value):
    text = HEAD + yaml.safe_dump({"env": {"A": value}}, allow_unicode=False)
    try:
        spec = parse_spec(text)
    except SpecError:
        assert not value.isprintable() or "//" in value or any(character in value for character in "\t\x7f")
    else:
        assert spec.env == {"A": value}
        assert len(value.splitlines()) <= 1


@pytest.mark.parametrize("document", [VALUES])
@given(data=st.data())
def test_positions_lie_in_the_text(document, data):
    text = yaml.safe_dump(data.draw(st.dictionaries(FIELDS, document)))
    lines = text.split("\n")
    try:
        places = parse_placed(text).places
    except SpecError as error:
        places = {fault.message: (fault.line, fault.column) for fault in error.faults if fault.line}
    for line, column in places.values():
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1


def test_a_byte_order_mark_is_no_part_of_the_spec():
    assert parse_spec("\ufeff" + HEAD).name == "demo"
    assert parse_spec(b"\xef\xbb\xbf" + HEAD.encode()).name == "demo"


def test_windows_line_ends():
    assert parse_spec(HEAD.replace("\n", "\r\n") + "pip: [numpy]\r\n").pip.packages == ("numpy",)


def test_a_huge_file_is_refused_unread():
    assert "more than" in faults("#" * (MAX_SIZE + 1))[0]


def test_as_many_values_as_may_be():
    wide = "[" + ",".join("x" * (MAX_NODES - 1)) + "]"
    assert compose(wide, file="f")[1] == ()
    assert compose(wide[:-1] + ",x,x]", file="f")[1]


@pytest.mark.parametrize(
    ("given_base", "base"),
    [
        ("debian", "debian:latest"),
        ("registry.example.org:5000/team/base", "registry.example.org:5000/team/base:latest"),
        ("debian@sha256:" + "0" * 64, "debian@sha256:" + "0" * 64),
        ("sha256:" + "0" * 64, "sha256:" + "0" * 64),
        ("a/b__c/d--e:v1_2.3-x", "a/b__c/d--e:v1_2.3-x"),
    ],
)
def test_bases(given_base, base):
    assert parse_spec(f"name: demo\nbase: {given_base}\npython: 3.11\n").base == base


@pytest.mark.parametrize(
    "base", ["a//b", "a/", "/a", "a:", "a@sha256:12", "-a", "a..b", "a___b", "a:b:c", "a/B", "a\n", "a b"]
)
def test_what_is_no_base(base):
    text = yaml.safe_dump({"name": "demo", "base": base, "python": "3.11"})
    assert "base" in faults(text)[0]


@pytest.mark.parametrize("trap", ["3.10", '"3.10"', "3.1_0x"])
def test_a_version_is_its_own_text(trap):
    text = f"name: demo\nbase: debian\npython: {trap}\n"
    if "_" in trap:
        assert "is not a Python version" in faults(text)[0]
    else:
        assert parse_spec(text).python == "3.10"


@pytest.mark.parametrize(
    ("line", "version"),
    [("git", None), ("git=1:2.30.2-1+deb11u2", "1:2.30.2-1+deb11u2"), ("g++-12=12.2.0-14~rc1", "12.2.0-14~rc1")],
)
def test_debian_packages(line, version):
    request = parse_spec(HEAD + f"apt: ['{line}']\n").apt.packages[0]
    assert request == AptRequest(name=line.partition("=")[0], version=version)
    assert str(request) == line


def test_short_and_long_forms_are_the_same():
    short = HEAD + "pip: [numpy]\napt: [git]\nproject: [src]\n"
    long = HEAD + "pip: {packages: [numpy]}\napt: {packages: [git]}\nproject: {include: [src]}\n"
    assert parse_spec(short) == parse_spec(long)


def test_the_file_is_called_what_the_caller_calls_it():
    with pytest.raises(SpecError) as caught:
        parse_spec("x: 1\n", file="team/envlock.yaml")
    assert all(detail.startswith("team/envlock.yaml:1:1: ") for detail in caught.value.details)


@pytest.mark.parametrize("field", ["name", "base", "python"])
def test_what_a_spec_must_have(field):
    lines = [line for line in HEAD.splitlines() if not line.startswith(field)]
    assert f"field {field} is missing" in faults("\n".join(lines))[0]


@pytest.mark.parametrize("folder", ["/etc", "/etc/x", "/usr/bin", "/usr", "/tmp", "/lib/x", "/proc", "/usr/local/bin"])
def test_a_folder_of_the_system_cannot_be_given_to_the_user(folder):
    text = f'name: a\nbase: b\npython: "3.11"\nimage: {{workdir: {folder}}}\n'
    with pytest.raises(SpecError) as caught:
        parse_spec(text, file="envlock.yaml")
    assert "is a folder of the system" in caught.value.details[0]


@pytest.mark.parametrize("folder", ["/usr/src/app", "/srv/train", "/home/me", "/workspace", "/opt/app", "/tmp/x"])
def test_any_other_folder_can(folder):
    text = f'name: a\nbase: b\npython: "3.11"\nimage: {{workdir: {folder}}}\n'
    assert parse_spec(text, file="envlock.yaml").image.workdir == folder
