"""Debian's formats: versions against dpkg itself, control files, sources, os-release."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envlock.formats.apt_sources import (
    SourceEntry,
    read_sources,
    render_source,
    snapshot_template,
    snapshot_timestamp,
    snapshot_uri,
)
from envlock.formats.debian import (
    DebianFormatError,
    architecture,
    installed_packages,
    is_name,
    is_version,
    paragraphs,
    parse_os_release,
    signed_text,
    version_key,
)

UPSTREAM = st.from_regex(r"[0-9][A-Za-z0-9.+~-]{0,8}", fullmatch=True).filter(lambda text: not text.endswith("-"))
REVISION = st.from_regex(r"[A-Za-z0-9+.~]{1,6}", fullmatch=True)
VERSIONS = st.one_of(
    UPSTREAM,
    st.builds("{}-{}".format, UPSTREAM, REVISION),
    st.builds("{}:{}-{}".format, st.integers(0, 12), UPSTREAM, REVISION),
    st.sampled_from(
        ["0", "0-0", "1.", "1.0", "1~", "1~~", "1~~a", "1a", "1+", "1.0-0", "1.0", "0:1.0", "00:1.0", "1.00", "1.0-~"]
    ),
)

# From dpkg's and apt's own tests, and from the archive
ORDERED = [
    ("1~~", "1~~a", "1~", "1", "1a", "1+", "1."),
    ("7.6p2-4", "7.6-0"),
    ("1.0-1~bpo12+1", "1.0-1", "1.0-1+b1", "1.0-1+deb12u1"),
    ("2.30.2-1+deb11u2", "2.39.5-0+deb12u2", "1:2.30.2-1+deb11u2", "1:2.39.5-0+deb12u2"),
    ("1.9", "1.10", "1.10.1", "1.11~rc1", "1.11"),
    ("11.8.89~11.8.0-5", "11.8.89"),
]


def dpkg_says(left: str, right: str) -> int:
    for operator, sign in (("lt", -1), ("eq", 0)):
        if subprocess.run(["dpkg", "--compare-versions", left, operator, right], check=False).returncode == 0:
            return sign
    return 1


def we_say(left: str, right: str) -> int:
    return (version_key(left) > version_key(right)) - (version_key(left) < version_key(right))


@settings(max_examples=250, deadline=None)
@given(VERSIONS, VERSIONS)
@example("1.0-0", "1.0")
@example("1.0", "1.0~")
@example("1.", "1.0")
@example("0:1", "1")
@example("0", "0~")
@example("1a0", "1a0~")
@example("00.0", "00.0+")
def test_versions_sort_as_dpkg_sorts_them(left: str, right: str) -> None:
    assert shutil.which("dpkg"), "the tests run on Debian or Ubuntu"
    assert we_say(left, right) == dpkg_says(left, right)


@pytest.mark.parametrize("versions", ORDERED)
def test_known_orders(versions: tuple[str, ...]) -> None:
    if versions[0] != "7.6p2-4":
        assert sorted(set(versions), key=version_key) == list(versions)
    for left in versions:
        for right in versions:
            assert we_say(left, right) == dpkg_says(left, right)


@pytest.mark.parametrize(
    "text", ["", "1 0", "1\n", "1;rm", ":1", "a:1", "1.0_1", "é1", "1" * 300, "99999999999:1", "-1", "~1", "$(id)"]
)
def test_no_versions(text: str) -> None:
    assert not is_version(text)
    with pytest.raises(DebianFormatError):
        version_key(text)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("git", True), ("libstdc++6", True), ("libc6:i386", True), ("0ad", True), ("python3.11-venv", True),
        ("g", False), ("Git", False), ("git=1", False), ("git\n", False), ("-git", False), ("a b", False),
        ("a;b", False), ("", False), ("libc6:", False),
    ],
)  # fmt: skip
def test_names(text: str, right: bool) -> None:
    assert is_name(text) is right


def test_architectures() -> None:
    known = {
        "amd64": "amd64",
        "arm64": "arm64",
        "arm/v7": "armhf",
        "386": "i386",
        "ppc64le": "ppc64el",
        "mips64el": "mips64el",
    }
    assert {platform: architecture(f"linux/{platform}") for platform in known} == known


# --- deb822 -----------------------------------------------------------------------------------------------------------


def test_paragraphs() -> None:
    text = "# about\r\nPackage: a\r\nDescription: short\r\n long\r\n .\r\n more  \r\n\r\n\n \n"
    text += "Package:b\n# inside\nEmpty:\n"
    assert list(paragraphs(text)) == [
        {"package": "a", "description": "short\n long\n .\n more"},
        {"package": "b", "empty": ""},
    ]
    assert list(paragraphs("")) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Package: a\nnonsense\n", 2),
        (" continued\n", 1),
        ("A: 1\na: 2\n", 2),
        ("A: 1\n\n\ttext\n", 3),
        ("Na me: x", 1),
        (": x", 1),
    ],
)
def test_malformed_paragraphs_say_where(text: str, line: int) -> None:
    with pytest.raises(DebianFormatError, match=f"^line {line}: "):
        list(paragraphs(text))


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
VALUES = st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True)


@given(st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), max_size=4))
def test_what_is_written_is_read(wanted: list[dict[str, str]]) -> None:
    text = "\n".join("".join(f"{name}: {value}\n" for name, value in fields.items()) for fields in wanted)
    assert list(paragraphs(text)) == wanted
    assert list(paragraphs(text.replace("\n", "\r\n"))) == wanted


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (lambda: list(paragraphs(text)), lambda: installed_packages(text), lambda: snapshot_template(text)):
        with contextlib.suppress(DebianFormatError):
            read()
    parse_os_release(text)
    signed_text(text)


def test_the_text_inside_a_signature() -> None:
    signed = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Test\n- -----dashes\n"
        "-----BEGIN PGP SIGNATURE-----\n\nabc=\n-----END PGP SIGNATURE-----\n"
    )
    assert signed_text(signed) == "Origin: Test\n-----dashes"
    assert signed_text("Origin: Test\n") == "Origin: Test\n"


def test_dpkgs_status() -> None:
    status = "\n".join(
        f"Package: {name}\nStatus: {state}\nArchitecture: amd64\nVersion: 1.0-1\n"
        for name, state in [
            ("here", "install ok installed"),
            ("held", "hold ok installed"),
            ("waiting", "install ok triggers-pending"),
            ("gone", "deinstall ok config-files"),
            ("half", "install reinstreq half-installed"),
        ]
    )
    assert [package.name for package in installed_packages(status)] == ["here", "held", "waiting"]
    with pytest.raises(DebianFormatError, match="Evil"):
        installed_packages("Package: Evil;\nStatus: install ok installed\nVersion: 1\n")


def test_os_release() -> None:
    text = '# x\nID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (\\"bookworm\\")"\nVERSION_ID=\'12\'\n'
    text += 'EMPTY=\nbad line\n1BAD=x\nHALF="x\n  VERSION_CODENAME=bookworm\r\n'
    assert parse_os_release(text) == {
        "ID": "debian",
        "PRETTY_NAME": 'Debian GNU/Linux 12 ("bookworm")',
        "VERSION_ID": "12",
        "EMPTY": "",
        "VERSION_CODENAME": "bookworm",
    }


# --- sources ----------------------------------------------------------------------------------------------------------


def read(**files: str) -> tuple[SourceEntry, ...]:
    named = {name.replace("__", "/").replace("_", "."): text.encode() for name, text in files.items()}
    return read_sources(named, architecture="amd64")


def test_one_line_sources() -> None:
    text = (
        "# comment\n\ndeb [arch=amd64,i386 signed-by=/k.gpg trusted=yes lang+=de unknown=1]"
        " https://example.org/debian/ bookworm main contrib # more\n"
        "deb-src https://example.org/debian bookworm main\n"
        "deb https://example.org/cuda/$(ARCH) /\n"
        "deb\thttps://example.org/debian bookworm non-free\n"
    )
    first, flat, third = read(sources_list=text)
    assert (first.uri, first.suite, first.components) == ("https://example.org/debian", "bookworm", ("main", "contrib"))
    assert first.options == {
        "architectures": "amd64 i386",
        "signed-by": "/k.gpg",
        "trusted": "yes",
        "languages-add": "de",
    }
    assert (flat.uri, flat.suite, flat.components, flat.name) == ("https://example.org/cuda/amd64", "/", (), "sources")
    assert (third.components, third.name) == (("non-free",), "bookworm"), "one place, one name"


def test_deb822_sources() -> None:
    text = (
        "Types: deb deb-src\nURIs: https://a.example.org/debian http://b.example.org/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\nArchitectures-Add: i386\n\n"
        "Enabled: no\nTypes: deb\nURIs: https://c.example.org\nSuites: x\n\n"
        "Types: deb-src\nURIs: https://d.example.org\nSuites: x\n"
    )
    entries = read(sources_list_d__debian_sources=text)
    assert [(entry.uri[:9], entry.suite, entry.name) for entry in entries] == [
        ("https://a", "bookworm", "bookworm"),
        ("https://a", "bookworm-updates", "bookworm-updates"),
        ("http://b.", "bookworm", "debian"),
        ("http://b.", "bookworm-updates", "debian-2"),
    ]
    assert entries[0].options["signed-by"].startswith("\n -----BEGIN")


def test_names_are_stable_and_never_a_reserved_one() -> None:
    files = {
        "sources.list": b"deb http://x.example.org/u jammy main\ndeb http://y.example.org/u jammy main\n",
        "sources.list.d/vendor.list": b"deb http://z.example.org /\n",
    }
    assert [entry.name for entry in read_sources(files, architecture="amd64")] == ["jammy", "sources", "vendor"]
    reserved = read_sources(files, architecture="amd64", reserved={"vendor", "jammy"})
    assert [entry.name for entry in reserved] == ["sources", "sources-2", "vendor-2"]


def test_the_order_is_apts_and_other_files_are_not_read() -> None:
    files = {
        "sources.list.d/b.sources": b"Types: deb\nURIs: http://b.example.org\nSuites: b\nComponents: main\n",
        "sources.list.d/a.list": b"deb http://a.example.org a main",
        "sources.list.d/c.list.save": b"nonsense",
        "sources.list.d/sub/d.list": b"nonsense",
        "apt.conf": b"nonsense",
        "sources.list": b"deb cdrom:[Debian] z main\n".replace(b"[Debian]", b"Debian"),
    }
    entries = read_sources(files, architecture="amd64")
    assert [entry.name for entry in entries] == ["z", "a", "b"]
    assert [entry.reachable for entry in entries] == [False, True, True]


def test_bad_sources_say_where() -> None:
    with pytest.raises(DebianFormatError, match=r"^/etc/apt/sources\.list: line 2: not a repository"):
        read(sources_list="\ndeb nothing\n")
    with pytest.raises(DebianFormatError, match=r"line 1: 'x y'|line 1: 'x' is not an option"):
        read(sources_list="deb [x] http://example.org s main\n")
    with pytest.raises(DebianFormatError, match=r"^/etc/apt/sources\.list\.d/a\.sources: line 1"):
        read(sources_list_d__a_sources="nonsense\n")


WORDS = st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True)


@given(
    WORDS,
    st.lists(WORDS, min_size=1, max_size=3, unique=True),
    st.dictionaries(st.sampled_from(["signed-by", "architectures", "trusted", "languages-remove"]), WORDS),
)
def test_a_rendered_source_is_read_back(suite: str, components: list[str], options: dict[str, str]) -> None:
    entry = SourceEntry(
        file="sources.list.d/x.sources",
        uri="http://a.example.org",
        suite=suite,
        components=tuple(components),
        options=options,
        name=suite,
    )
    text = render_source(entry, uri="http://127.0.0.1:1/apt/0")
    (found,) = read_sources({"sources.list.d/x.sources": text.encode()}, architecture="amd64")
    assert (found.uri, found.suite, found.components, found.options) == (
        "http://127.0.0.1:1/apt/0",
        suite,
        entry.components,
        options,
    )


def test_release_urls() -> None:
    (entry,) = read(sources_list="deb http://a.example.org/debian bookworm main")
    assert entry.release_urls[0] == "http://a.example.org/debian/dists/bookworm/InRelease"
    (flat,) = read(sources_list="deb http://a.example.org/cuda ./")
    assert flat.release_urls[1] == "http://a.example.org/cuda/./Release"


def test_snapshots() -> None:
    assert snapshot_timestamp("2026-01-31") == "20260131T000000Z"
    assert snapshot_timestamp("2026-01-31T12:30:05Z") == "20260131T123005Z"
    for wrong in ("31.1.2026", "2026-1-31", "2026-01-31T12:00:00+02:00", "2026-01-31\n", ""):
        with pytest.raises(ValueError, match="is not a date"):
            snapshot_timestamp(wrong)
    release = "Origin: X\nSnapshots: https://snapshot.example.org/ubuntu/@SNAPSHOTID@/\n"
    template = snapshot_template(release)
    assert template is not None
    assert (
        snapshot_uri(template, timestamp="T", uri="http://a.example.org/ubuntu")
        == "https://snapshot.example.org/ubuntu/T"
    )
    assert (
        snapshot_uri(
            "http://s.example.org/{archive}/{timestamp}", timestamp="T", uri="http://a.example.org/debian-security/"
        )
        == "http://s.example.org/debian-security/T"
    )
    assert snapshot_template("Origin: X\n") is None
    assert snapshot_template("Snapshots: no\n") is None
