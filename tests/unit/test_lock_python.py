"""Locking Python packages against indexes on loopback, resolved by uv on this machine; engine tests have pip-tools."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envlock.adapters.package_index import PackageIndexes
from envlock.adapters.wheel_source import WheelSource
from envlock.errors import HashMismatch, IndexFailed, InputError, Unresolvable
from envlock.model.lock import PythonSource
from envlock.model.spec import Index
from envlock.ports import Resolution
from tests.support.index_server import index_server
from tests.support.locking import Locking, as_lock, http_client, offered, pins
from tests.support.packages import save, sdist, wheel


def test_exactly_the_chosen_file_of_each(tmp_path):
    numpy = wheel("numpy", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    packages = offered(
        wheel("app", "1.0", requires=["numpy>=1", "Rich.Text[color]"]),
        numpy,
        wheel("numpy", "2.0", tag="cp311-cp311-win_amd64"),
        wheel("numpy", "2.1", tag="cp312-cp312-manylinux_2_28_x86_64"),
        wheel("rich_text", "3", extras={"color": ["colors; python_version < '4'"]}),
        wheel("colors", "1"),
        wheel("unrelated", "1"),
    )
    with index_server(packages) as server:
        lock = Locking(default_url=server.url, tmp_path=tmp_path).lock("App", "numpy")
        assert not [path for _, path, _ in server.requests if path.endswith(".whl")]
    assert pins(lock) == {"app": "1.0", "colors": "1", "numpy": "2.0", "rich-text": "3"}
    assert {one.name: (one.required_by, one.requested) for one in lock.wheels} == {
        "app": ((), True),
        "colors": (("rich-text",), False),
        "numpy": (("app",), True),
        "rich-text": (("app",), False),
    }
    found = lock.wheels[2]
    assert (found.filename, found.sha256, found.size) == (numpy.filename, numpy.sha256, len(numpy.content))
    assert lock.installer.filename == "pip-26.0-py3-none-any.whl"
    assert lock.sources == (PythonSource(name="default", kind="index"),)


def test_nothing_asked_for(tmp_path):
    with index_server(offered()) as server:
        assert Locking(default_url=server.url, tmp_path=tmp_path).lock().wheels == ()


def test_locking_twice_gives_the_same_and_only_what_was_asked_moves(tmp_path):
    with index_server(offered(wheel("a", "1", requires=["b"]), wheel("b", "1"), wheel("c", "1"))) as server:
        locking = Locking(default_url=server.url, tmp_path=tmp_path)
        first = locking.lock("a", "c")
        assert locking.lock("a", "c") == first
        server.add(wheel("a", "2", requires=["b"]), wheel("b", "2"), wheel("c", "2"), wheel("pip", "27.0"))
        assert locking.lock("c", "a", previous=first) == first
        one = locking.lock("a", "c", previous=first, upgrade_packages=["B"])
        assert pins(one) == {"a": "1", "b": "2", "c": "1"}
        assert one.installer == first.installer
        bounded = locking.lock("a>=2", "c", previous=first)
        assert pins(bounded) == {"a": "2", "b": "1", "c": "1"}
        added = locking.lock("a", "c", "pip", previous=first)
        assert pins(added) == {"a": "1", "b": "1", "c": "1", "pip": "27.0"}
        everything = locking.lock("a", "c", previous=first, upgrade=True)
        assert pins(everything) == {"a": "2", "b": "2", "c": "2"}
        assert everything.installer.version == "27.0"
        assert pins(locking.lock("a", previous=first)) == {"a": "1", "b": "1"}


def test_constraints_bound_what_is_not_asked_for_itself(tmp_path):
    with index_server(offered(wheel("a", "1", requires=["b"]), wheel("b", "1"), wheel("b", "2"))) as server:
        lock = Locking(default_url=server.url, tmp_path=tmp_path).lock("a", constraints=["b<2", "unused==7"])
    assert pins(lock) == {"a": "1", "b": "1"}


def test_requirements_for_other_targets_are_left_out(tmp_path):
    with index_server(offered(wheel("a"))) as server:
        lock = Locking(default_url=server.url, tmp_path=tmp_path).lock("a", 'gone; sys_platform == "win32"')
    assert list(pins(lock)) == ["a"]


def test_hashes_and_sizes_that_no_page_says_are_found_out(tmp_path):
    big = wheel("big", files={"x": "y" * 100_000})
    with index_server(offered(big), html_only=True, hashes=False) as server:
        (found,) = Locking(default_url=server.url, tmp_path=tmp_path).lock("big").wheels
    assert (found.sha256, found.size) == (big.sha256, len(big.content))
    with index_server(offered(big), html_only=True) as server:
        assert Locking(default_url=server.url, tmp_path=tmp_path).lock("big").wheels == (found,)


def test_hashes_that_the_requirements_allow(tmp_path):
    good = wheel("a", "1")
    with index_server(offered(good, wheel("a", "2"))) as server:
        locking = Locking(default_url=server.url, tmp_path=tmp_path)
        assert pins(locking.lock("a", hashes={"a": (good.sha256,)})) == {"a": "1"}
        server.switches.hashes = False
        with pytest.raises(HashMismatch, match="--hash"):
            locking.lock("a", hashes={"a": (good.sha256,)})


def test_a_local_version_from_a_bound_index(tmp_path):
    cuda = wheel("torch", "2.1.2+cu118", tag="cp311-cp311-linux_x86_64", requires=["numpy"])
    with (
        index_server(offered(wheel("torch", "2.9"), wheel("numpy", "1"))) as default,
        index_server([cuda, wheel("numpy", "9")], html_only=True) as pytorch,
    ):
        index = Index(name="pytorch", url=pytorch.url, packages=("torch",))
        lock = Locking(default_url=default.url, tmp_path=tmp_path).lock("torch", indexes=[index])
    assert pins(lock) == {"numpy": "1", "torch": "2.1.2+cu118"}
    assert [one.source for one in lock.wheels] == ["default", "pytorch"]
    assert lock.sources[1] == PythonSource(name="pytorch", kind="index", location=pytorch.url, packages=("torch",))


def test_wheels_in_a_folder(tmp_path):
    mine = wheel("mine", "1", requires=["a"])
    save(mine, tmp_path / "wheels")
    with index_server(offered(wheel("a"))) as server:
        lock = Locking(default_url=server.url, tmp_path=tmp_path).lock("mine", find_links={"local": "wheels"})
    assert [(one.name, one.source) for one in lock.wheels] == [("a", "default"), ("mine", "local")]
    assert lock.wheels[1].sha256 == mine.sha256
    assert lock.sources[1] == PythonSource(name="local", kind="find-links", location="wheels")


def test_as_of(tmp_path):
    packages = offered(
        wheel("a", "1", uploaded="2023-01-01T00:00:00Z"), wheel("a", "2", uploaded="2025-01-01T00:00:00Z")
    )
    with index_server(packages) as server:
        locking = Locking(default_url=server.url, tmp_path=tmp_path)
        assert pins(locking.lock("a", as_of="2024-01-01")) == {"a": "1"}
        server.switches.upload_times = False
        with pytest.raises(InputError, match="does not say when"):
            locking.lock("a", as_of="2024-01-01")


def test_yanked_releases_are_for_those_who_pin_them(tmp_path):
    with index_server(offered(wheel("a", "1"), wheel("a", "2", yanked="broken"))) as server:
        locking = Locking(default_url=server.url, tmp_path=tmp_path)
        assert pins(locking.lock("a")) == {"a": "1"}
        assert pins(locking.lock("a==2")) == {"a": "2"}


# --- what cannot be had ----------------------------------------------------------------------------------------------


def refused(locking: Locking, *requirements: str, **options) -> Unresolvable:
    with pytest.raises(Unresolvable) as caught:
        locking.lock(*requirements, **options)
    assert len(caught.value.details) <= 30
    return caught.value


def test_a_conflict(tmp_path):
    packages = offered(wheel("a", requires=["c<2"]), wheel("b", requires=["c>=2"]), wheel("c", "1"), wheel("c", "2"))
    with index_server(packages) as server:
        error = refused(Locking(default_url=server.url, tmp_path=tmp_path), "a", "b")
    text = " ".join(error.details)
    assert "c<2" in text
    assert "c>=2" in text
    assert error.exit_code == 2


def test_no_wheel_for_the_target(tmp_path):
    with index_server(offered(wheel("a", "1", tag="cp312-cp312-win_amd64"))) as server:
        error = refused(Locking(default_url=server.url, tmp_path=tmp_path), "a")
    assert "a has no wheel for the target, only for others: a-1-cp312-cp312-win_amd64.whl" in error.details
    assert "choose a base" in error.hint


def test_only_a_source_distribution(tmp_path):
    with index_server(offered(wheel("a", requires=["old"]), sdist("old", "1.0"))) as server:
        error = refused(Locking(default_url=server.url, tmp_path=tmp_path), "a")
    assert "old has no wheel for the target, but a source distribution: old-1.0.tar.gz" in error.details
    assert "sdist: [old]" in error.hint


def test_another_python(tmp_path):
    with index_server(offered(wheel("a", "1", requires_python=">=3.12"))) as server:
        error = refused(Locking(default_url=server.url, tmp_path=tmp_path), "a")
    assert "a 1 needs Python >=3.12" in error.details


def test_a_version_that_there_is_not(tmp_path):
    with index_server(offered(*(wheel("a", f"1.{minor}") for minor in range(12)))) as server:
        error = refused(Locking(default_url=server.url, tmp_path=tmp_path), "a==2.0")
    assert "a: the newest versions for the target are 1.11, 1.10, 1.9, 1.8" in error.details


def test_a_package_that_there_is_not(tmp_path):
    with index_server(offered()) as server:
        error = refused(Locking(default_url=server.url, tmp_path=tmp_path), "nosuch")
    assert "no index has a package nosuch" in error.details


def test_no_installer(tmp_path):
    with index_server([wheel("a")]) as server:
        assert "no index has a pip" in refused(Locking(default_url=server.url, tmp_path=tmp_path), "a").message


def test_an_index_that_fails_is_the_cause_and_not_the_packages(tmp_path):
    with index_server(offered(wheel("a", requires=["b"]), wheel("b"))) as server:
        locking = Locking(default_url=server.url, tmp_path=tmp_path)
        locking.lock("a")
        server.switches.fail_times = 10_000
        with pytest.raises(IndexFailed, match="503"):
            locking.lock("a")


class Liar:
    """A resolver that is wrong."""

    def __init__(self, **pins: str) -> None:
        self.pins = pins

    def resolve(self, **_: object) -> Resolution:
        return Resolution(pins=self.pins)


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        ({"a": "1", "b": "1"}, "a needs b>=2, and 1 was chosen"),
        ({"a": "1"}, "a needs b>=2, which was not chosen"),
        ({"a": "1", "b": "3"}, "b 3 needs Python >=3.12, and the base has 3.11.2"),
        ({"a": "1", "b": "9"}, "b==9"),
        ({"b": "2"}, "the spec needs a, which was not chosen"),
    ],
)
def test_a_resolver_that_is_wrong_is_found_out(tmp_path, pins, expected):
    packages = offered(
        wheel("a", "1", requires=["b>=2"]), wheel("b", "1"), wheel("b", "2"), wheel("b", "3", requires_python=">=3.12")
    )
    with index_server(packages) as server:
        locking = Locking(default_url=server.url, tmp_path=tmp_path, resolver=Liar(**pins))
        assert expected in refused(locking, "a").details


def test_what_nothing_needs_is_not_locked(tmp_path):
    with index_server(offered(wheel("a"), wheel("b"))) as server:
        locking = Locking(default_url=server.url, tmp_path=tmp_path, resolver=Liar(a="1.0", b="1.0"))
        assert pins(locking.lock("a")) == {"a": "1.0"}


# --- properties ------------------------------------------------------------------------------------------------------

NAMES = ["p0", "p1", "p2", "p3", "p4"]
releases = st.dictionaries(
    st.tuples(st.sampled_from(NAMES), st.integers(1, 3)),
    st.sets(st.sampled_from(NAMES), max_size=2),
    min_size=4,
    max_size=9,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=releases, later=releases, roots=st.sets(st.sampled_from(NAMES), min_size=1, max_size=3))
def test_a_relock_never_moves_anything(tmp_path, before, later, roots):
    """Whatever is released meanwhile, a lock that still answers its request stays as it is."""
    packages = [wheel(name, str(v), requires=sorted(needs - {name})) for (name, v), needs in before.items()]
    newer = [wheel(name, str(v + 3), requires=sorted(needs - {name})) for (name, v), needs in later.items()]
    with index_server(offered(*packages)) as server:
        locking = Locking(default_url=server.url, tmp_path=tmp_path)
        try:
            first = locking.lock(*roots)
        except Unresolvable:
            return
        server.add(*newer)
        assert locking.lock(*roots, previous=first) == first


# --- from a lock alone -----------------------------------------------------------------------------------------------


def test_fetching_from_a_lock(tmp_path):
    from envlock.adapters.artifacts import ArtifactStore
    from tests.support.progress import Remembering

    mine = wheel("mine", "1", requires=["a"])
    save(mine, tmp_path / "wheels")
    with index_server(offered(wheel("a"))) as server:
        lock = as_lock(Locking(default_url=server.url, tmp_path=tmp_path).lock("mine", find_links={"local": "wheels"}))
        index = PackageIndexes(lock.python_sources, http=http_client(), default_url=server.url, root=tmp_path)
        store = ArtifactStore(tmp_path / "other")
        found = store.fetch(WheelSource(lock, index=index).wanted(), progress=Remembering())
        assert len(found) == 3
        assert found[mine.sha256].read_bytes() == mine.content


def test_files_that_are_gone_or_replaced(tmp_path):
    with index_server(offered(wheel("a"), wheel("b"))) as server:
        lock = as_lock(Locking(default_url=server.url, tmp_path=tmp_path).lock("a", "b"))
        server.packages[1:] = [wheel("b", files={"b.py": "changed = True"})]
        index = PackageIndexes(lock.python_sources, http=http_client(), default_url=server.url, root=tmp_path)
        a, b, _ = WheelSource(lock, index=index).wanted()
        with pytest.raises(IndexFailed, match="no longer has a-1"), a.open():
            pass
        with pytest.raises(HashMismatch, match="another b-1"), b.open():
            pass
