"""What a resolver gets to see."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from envlock.errors import IndexFailed, InputError
from envlock.lock.candidates import Chooser, Policy
from envlock.lock.simple_index import JSON, SimpleIndex
from envlock.model.lock import Wheel
from envlock.ports import GatewayRequest, GatewayResponse, IndexFile
from tests.support.index_server import index_server
from tests.support.locking import TARGET, package_indexes
from tests.support.packages import sdist, wheel

POLICY = Policy(interpreter=TARGET)


def file(filename: str, **fields) -> IndexFile:
    values = {
        "source": "default",
        "filename": filename,
        "url": f"https://files.example.org/{filename}",
        "sha256": None,
        "size": None,
        "requires_python": None,
        "yanked": False,
        "uploaded": None,
        "metadata_sha256": None,
    }
    return IndexFile(**(values | fields))


def chosen(files: Iterable[IndexFile], policy: Policy = POLICY) -> dict[str, str]:
    offer = Chooser(policy).offer("demo", files)
    return {str(version): one.file.filename for version, one in offer.candidates.items()}


def wheel_for(tag: str, version: str = "1", build: str = "") -> str:
    return f"demo-{version}-{build + '-' if build else ''}{tag}.whl"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"),
        ("cp311-cp311-manylinux2014_x86_64", "cp311-abi3-manylinux_2_28_x86_64"),
        ("cp311-abi3-manylinux_2_17_x86_64", "cp39-abi3-manylinux_2_28_x86_64"),
        ("cp39-abi3-manylinux_2_17_x86_64", "py3-none-any"),
        ("py311-none-any", "py3-none-any"),
        ("py3-none-any", "py2.py3-none-any"),
    ],
)
def test_the_best_tag_wins_whatever_the_order(better, worse):
    files = [file(wheel_for(better)), file(wheel_for(worse))]
    if worse == "py2.py3-none-any":  # equally good: the name decides, always the same way
        assert chosen(files) == chosen(files[::-1])
    else:
        assert chosen(files) == chosen(files[::-1]) == {"1": wheel_for(better)}


@pytest.mark.parametrize(
    "tag",
    [
        "cp312-cp312-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_39_x86_64",  # newer than the base's glibc
        "cp311-cp311-musllinux_1_2_x86_64",
        "cp311-cp311-manylinux_2_28_aarch64",
        "cp311-cp311-win_amd64",
        "cp311-cp311-macosx_11_0_arm64",
        "cp311-cp311t-manylinux_2_28_x86_64",
        "py2-none-any",
    ],
)
def test_what_does_not_fit_is_hidden(tag):
    offer = Chooser(POLICY).offer("demo", [file(wheel_for(tag))])
    assert not offer.candidates
    assert [one.filename for one in offer.hidden] == [wheel_for(tag)]


def test_the_highest_build_number_wins_as_a_number():
    tag = "py3-none-any"
    files = [file(wheel_for(tag, build=build)) for build in ("", "2", "10", "9a")]
    assert chosen(files) == {"1": wheel_for(tag, build="10")}


def test_versions_are_sorted_as_versions_and_nonsense_is_left_out():
    files = [file(wheel_for("py3-none-any", version)) for version in ("1.9", "1.10", "1.10rc1", "1.9+cu118", "what")]
    assert list(chosen(files)) == ["1.10", "1.10rc1", "1.9+cu118", "1.9"]


def test_sdists_count_only_where_allowed_and_only_without_a_wheel():
    files = [file("demo-2.tar.gz"), file("demo-1.tar.gz"), file(wheel_for("py3-none-any"))]
    assert chosen(files) == {"1": wheel_for("py3-none-any")}
    allowed = Policy(interpreter=TARGET, sdist=frozenset(["demo"]))
    assert chosen(files, allowed) == {"2": "demo-2.tar.gz", "1": wheel_for("py3-none-any")}


def test_a_yanked_file_comes_after_one_that_is_not():
    files = [
        file(wheel_for("cp311-cp311-manylinux_2_28_x86_64"), yanked=True),
        file(wheel_for("py3-none-any")),
    ]
    assert chosen(files) == {"1": wheel_for("py3-none-any")}


def test_as_of_looks_back():
    files = [
        file(wheel_for("py3-none-any", "1"), uploaded="2024-01-01T00:00:00Z"),
        file(wheel_for("py3-none-any", "2"), uploaded="2024-06-01T00:00:00.123456Z"),
        file(wheel_for("py3-none-any", "3"), url="file:///w/demo-3-py3-none-any.whl"),
    ]
    for as_of, expected in [
        ("2024-05-31", ["3", "1"]),
        ("2024-06-01", ["3", "1"]),  # a date is its first moment
        ("2024-06-01T12:00:00Z", ["3", "2", "1"]),
    ]:
        assert list(chosen(files, Policy(interpreter=TARGET, as_of=as_of))) == expected


def test_as_of_needs_to_know():
    with pytest.raises(InputError, match="default does not say when"):
        chosen([file(wheel_for("py3-none-any"))], Policy(interpreter=TARGET, as_of="2024-01-01"))


def test_only_the_hashes_that_the_requirements_allow():
    good, bad = "a" * 64, "b" * 64
    files = [
        file(wheel_for("cp311-cp311-manylinux_2_28_x86_64"), sha256=bad),
        file(wheel_for("py3-none-any"), sha256=good),
    ]
    assert chosen(files, Policy(interpreter=TARGET, hashes={"demo": (good,)})) == {"1": wheel_for("py3-none-any")}


def test_a_locked_file_stays_although_a_better_one_appeared():
    files = [file(wheel_for("cp311-cp311-manylinux_2_28_x86_64")), file(wheel_for("py3-none-any"), sha256="a" * 64)]
    kept = Wheel(
        name="demo", version="1", source="default", filename=wheel_for("py3-none-any"), sha256="a" * 64, size=1
    )
    assert chosen(files, Policy(interpreter=TARGET, kept={"demo": kept})) == {"1": wheel_for("py3-none-any")}


# --- over HTTP -------------------------------------------------------------------------------------------------------


def get(simple: SimpleIndex, path: str, accept: str = JSON) -> GatewayResponse:
    return simple(GatewayRequest(method="GET", path=path, headers={"accept": accept}))


def body(response: GatewayResponse) -> bytes:
    return b"".join(response.body)


def test_pages_metadata_and_files():
    demo = wheel("demo", "1.0", requires_python=">=3.8", requires=["other"])
    with index_server([demo, wheel("demo", "2.0", tag="cp312-cp312-win_amd64"), sdist("demo", "3.0")]) as server:
        simple = SimpleIndex(package_indexes(server.url), POLICY)
        page = json.loads(body(get(simple, "/simple/demo/")))
        (only,) = page["files"]
        assert (page["name"], page["versions"], only["filename"]) == ("demo", ["1.0"], demo.filename)
        assert only["requires-python"] == ">=3.8"
        assert body(get(simple, only["url"])) == demo.content
        assert body(get(simple, only["url"] + ".metadata")) == demo.metadata
        text = body(get(simple, "/simple/Demo/", accept="text/html")).decode()
        assert f'href="/files/demo/{demo.filename}"' in text
        assert "&gt;=3.8" in text
    assert list(simple.asked) == ["demo"]


@pytest.mark.parametrize(
    "path", ["/simple/none/", "/files/demo/none-1-py3-none-any.whl", "/", "/etc/passwd", "/simple/"]
)
def test_what_is_not_there(path):
    with index_server([wheel("demo")]) as server:
        assert get(SimpleIndex(package_indexes(server.url), POLICY), path).status == 404


def test_a_failure_is_remembered():
    with index_server([wheel("demo")], fail_times=1000) as server:
        simple = SimpleIndex(package_indexes(server.url), POLICY)
        for _ in range(2):
            with pytest.raises(IndexFailed):
                get(simple, "/simple/demo/")
    assert isinstance(simple.failure, IndexFailed)


def test_what_will_be_asked_for_next_is_fetched_ahead():
    packages = [
        wheel("a", "1", requires=["b<2", "c[x]; python_version >= '3'", "never; sys_platform == 'win32'"]),
        wheel("b", "1", requires=["d"]),
        wheel("b", "2"),
        wheel("c", "1", extras={"x": ["e"], "y": ["f"]}),
        wheel("d"),
        wheel("e"),
        wheel("f"),
        wheel("never"),
    ]
    with index_server(packages) as server:
        simple = SimpleIndex(package_indexes(server.url), POLICY)
        with simple.prefetching():
            simple.expect(Requirement("a"))
            for _ in range(400):
                if server.count("/files/d-1.0*") and server.count("/files/e-1.0*"):
                    break
                threading_wait()
        assert server.count("/simple/*") == 5
        assert server.count("/files/b-1-*") == 1
        assert server.count("/files/b-2-*") == 0
        assert simple.offer("d").candidates[Version("1.0")]
        assert server.count("/simple/d/") == 1


def threading_wait() -> None:
    import time

    time.sleep(0.01)
