from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from envlock.errors import Fault, SpecError
from envlock.formats.requirement import BadRequirement, canonical
from envlock.formats.requirement_lines import read_lines
from envlock.formats.requirements import MAX_INCLUDES, parse_requirements

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}((a|b|rc)[0-9])?(\.post[0-9])?", fullmatch=True)
EXTRAS = st.lists(NAMES, max_size=2).map(lambda names: f"[{','.join(names)}]" if names else "")
SPECIFIERS = st.lists(st.tuples(st.sampled_from([">=", "<", "!=", "==", "~="]), VERSIONS), max_size=3)
MARKERS = st.sampled_from(["", " ; python_version < '3.12'", '; sys_platform == "linux" and extra == "x"'])


@st.composite
def requirements(draw):
    pairs = draw(SPECIFIERS)
    # a compatible release needs two numbers (PEP 440)
    versions = ",".join(f"{op} {version}" for op, version in pairs if op != "~=" or re.match(r"[0-9]+\.[0-9]", version))
    return draw(NAMES) + draw(EXTRAS) + " " + versions + draw(MARKERS)


def no_files(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def files(**texts: str):
    def read(path: str) -> str:
        if path not in texts:
            no_files(path)
        return texts[path]

    return read


def faults(text: str, read=no_files, file: str = "r.txt") -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_requirements(text, file=file, read=read)
    return list(caught.value.details)


def faults_if_any(text: str) -> tuple[Fault, ...]:
    """Return the faults; whatever is raised but SpecError fails the test."""
    try:
        parsed(text)
    except SpecError as error:
        return error.faults or (Fault(file="", message=""),)
    return ()


def parsed(text: str, read=no_files):
    return parse_requirements(text, file="r.txt", read=read)


@given(st.text())
def test_any_text_is_read_or_a_spec_error(text):
    assert all(fault.message for fault in faults_if_any(text))


@given(
    st.lists(
        st.sampled_from(
            [
                "numpy",
                "==1",
                "-r ",
                "-c x",
                "\\\n",
                "\n",
                " #",
                "--hash=sha256:" + "a" * 64,
                "--hash",
                " ",
                "-e .",
                "[",
                "]",
                ";",
                "-",
                "--",
                "\t",
                "\r\n",
                "\0",
                "\u2028",
                "@",
                "git+https://u:p@h/x",
                "<",
                "'",
                '"',
                "=",
                "$(id)",
                "https://",
                "/",
            ]
        )
    )
)
def test_text_that_is_nearly_right_is_read_or_a_spec_error(parts):
    text = "".join(parts)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for fault in faults_if_any(text):
        assert "u:p" not in str(fault)
        assert 1 <= fault.line <= len(lines)
        assert 1 <= fault.column <= len(lines[fault.line - 1]) + 2


@given(requirements())
def test_a_canonical_requirement_stays_as_it_is(line):
    once = canonical(line)
    assert canonical(once) == once
    before, after = Requirement(line), Requirement(once)
    assert (after.specifier, after.extras, after.marker) == (before.specifier, before.extras, before.marker)


@given(st.lists(requirements()))
def test_a_file_of_requirements_round_trips(lines):
    found = parsed("\n".join(lines)).requirements
    assert list(found) == sorted({canonical(line) for line in lines})
    assert parsed("\n".join(found)).requirements == found


@given(st.text())
def test_what_is_accepted_has_nothing_that_a_shell_or_dockerfile_reads(text):
    try:
        line = canonical(text)
    except BadRequirement:
        line = ""
    assert not set(line) & set("$`\\\n\r\t|&{}#\0")


def test_comments_blank_lines_and_continuations():
    text = "# head\n\nnumpy \\\n  <3 # why\n  pandas>=2\\\n,<3\nrich#not-a-comment\n"
    assert [fault.partition(" is not")[0] for fault in faults(text)] == ['r.txt:7:5: "rich#not-a-comment"']
    assert parsed(text.rpartition("rich")[0]).requirements == ("numpy<3", "pandas<3,>=2")


def test_a_comment_ends_a_continuation_as_in_pip():
    assert parsed("numpy \\\n# comment \\\npandas\n").requirements == ("numpy", "pandas")


def test_hashes_are_kept_by_name():
    one, two = "a" * 64, "b" * 64
    found = parsed(f"NumPy==1 \\\n  --hash=sha256:{two} \\\n  --hash sha256:{one}\nrich==1\n")
    assert found.requirements == ("numpy==1", "rich==1")
    assert found.hashes == {"numpy": (one, two)}


@pytest.mark.parametrize("bad", ["md5:" + "a" * 32, "sha256:xyz", "sha256:" + "A" * 64, "x"])
def test_hashes_that_are_none(bad):
    assert "only --hash=sha256:" in faults(f"numpy==1 --hash={bad}\n")[0]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("-i https://x.example.org", "pip.indexes"),
        ("--index-url https://x.example.org", "pip.indexes"),
        ("--index-url=https://x.example.org", "pip.indexes"),
        ("--extra-index-url https://x.example.org", "pip.indexes"),
        ("--find-links ./wheels", "pip.find_links"),
        ("-f ./wheels", "pip.find_links"),
        ("--no-index", "pip.find_links"),
        ("--no-binary :all:", "pip.sdist"),
        ("--only-binary :all:", "pip.sdist"),
        ("--prefer-binary", "pip.sdist"),
        ("--pre", "pre-release"),
        ("--require-hashes", "always has hashes"),
        ("--trusted-host x.example.org", "pip's own setting"),
        ("-e .", "pip.find_links"),
        ("--editable=git+https://x.example.org/y#egg=y", "pip.find_links"),
        ("numpy --global-option=x", "pip.find_links"),
        ("./wheels/x-1.0-py3-none-any.whl", "pip.find_links"),
        ("../lib", "pip.find_links"),
        ("x.tar.gz", "pip.find_links"),
        ("file:///x.whl", "pip.find_links"),
        ("https://x.example.org/x.whl", "pip.find_links"),
        ("git+https://x.example.org/y.git@main", "pip.find_links"),
        ("x @ git+https://x.example.org/y.git@main", "pip.find_links"),
        ("x @ https://x.example.org/x.whl", "pip.find_links"),
        ("numpy_", "ends with a letter"),
        ("numpy[a_]", "ends with a letter"),
        ("numpy=1.2", "did you mean numpy==1.2?"),
        ("--requirements x.txt", "did you mean --requirement?"),
    ],
)
def test_lines_that_are_not_taken_say_what_to_do(line, hint):
    found = faults(f"rich\n{line}\n")
    assert len(found) == 1
    assert found[0].startswith("r.txt:2:")
    assert hint in found[0]


def test_credentials_are_not_repeated():
    text = "--index-url https://me:secret@x.example.org\ngit+https://me:secret@x/y\nx @ https://me:secret@x/y\n"
    assert "secret" not in str(faults(text))


def test_every_fault_of_every_file_at_once():
    read = files(**{"sub/a.txt": "-e .\n-r b.txt\n", "sub/b.txt": "!\n"})
    assert [fault.split(": ")[0] for fault in faults("?\n-r sub/a.txt\n-r gone.txt\n", read)] == [
        "r.txt:1:1", "r.txt:3:1", "sub/a.txt:1:1", "sub/b.txt:1:1",
    ]  # fmt: skip


def test_includes_are_relative_to_their_file_and_read_once():
    asked: list[str] = []
    texts = {
        "sub/a.txt": "-r ../b.txt\n-c c.txt\nx\n",
        "b.txt": "y\n",
        "sub/c.txt": "z<2\n-c ../d.txt\n",
        "d.txt": "w<3\n",
    }

    def read(path: str) -> str:
        asked.append(path)
        return texts[path]

    found = parse_requirements("-rsub/a.txt\n--requirement=b.txt\n-r 'b.txt'\n", file="r.txt", read=read)
    assert found.requirements == ("x", "y")
    assert found.constraints == ("w<3", "z<2")
    assert sorted(asked) == sorted(texts)


def test_files_that_include_each_other():
    read = files(**{"a.txt": "-r b.txt\n", "b.txt": "-r ./a.txt\n"})
    assert "include each other: a.txt → b.txt → a.txt" in faults("-r a.txt\n", read)[0]
    assert "include each other: r.txt → r.txt" in faults("-r r.txt\n")[0]


def test_a_long_chain_of_includes():
    found = faults("-r 1.txt\n", lambda path: f"-r {int(path[:-4]) + 1}.txt\n")
    assert f"more than {MAX_INCLUDES} files" in found[0]


@pytest.mark.parametrize("path", ["https://x.example.org/r.txt", "/etc/r.txt", "~/r.txt", "C:\\r.txt", "a\\b.txt"])
def test_includes_from_elsewhere(path):
    assert "put the file beside this one" in faults(f"-r {path}\n")[0]


def test_constraints_have_rules_of_their_own():
    read = files(**{"c.txt": "-r r2.txt\nuvicorn[standard]<1\n"})
    found = faults("-c c.txt\n", read)
    assert "cannot include requirements" in found[0]
    assert "cannot have" in found[1]


def test_entries_keep_their_places():
    places = [(entry.line, entry.column) for entry in read_lines("\n  numpy\n\npandas\\\n\\\n\n-e .\n")]
    assert places == [(2, 3), (4, 1), (7, 1)]


@pytest.mark.parametrize("line", ["a" * 3000, "x" + "[" * 500, "x;" + "(" * 5000 + "python_version<'3'" + ")" * 5000])
def test_absurd_lines(line):
    assert len(faults(line)) == 1
