"""Locking Python packages in the base's own container, with pip-tools, on the real engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import docker
import pytest

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.credentials import Credentials
from envlock.adapters.engine import DockerEngine
from envlock.adapters.index_http import IndexHttp
from envlock.adapters.package_index import PackageIndexes
from envlock.adapters.pip_configuration import read_pip_settings
from envlock.adapters.resolvers.pip_tools import PipToolsResolver
from envlock.adapters.resolvers.uv import UvResolver
from envlock.adapters.wheel_source import WheelSource
from envlock.errors import HashMismatch, InputError, Unresolvable
from envlock.lock.build_sdist import rebuild_wheel
from envlock.lock.interpreter import Interpreter, probe
from envlock.model.spec import Index
from envlock.ports import Container
from tests.support.index_server import Index as Server
from tests.support.index_server import index_server
from tests.support.locking import Locking, as_lock, http_client, offered, pins
from tests.support.packages import installed_wheel, sdist, wheel
from tests.support.progress import Remembering

pytestmark = pytest.mark.engine

BASE = "envlock/base:py3.11"
SECRET = "s3cret-t0ken"


@pytest.fixture(scope="module")
def engine() -> DockerEngine:
    return DockerEngine(os.environ)


@pytest.fixture(scope="module")
def target(engine) -> Interpreter:
    with engine.container(BASE) as container:
        return probe(container, wanted="3.11")


@pytest.fixture
def locking(engine, target, tmp_path):
    def make(server: Server, **fields) -> Locking:
        values = {
            "default_url": server.url,
            "tmp_path": tmp_path,
            "interpreter": target,
            "containers": lambda handler: engine.container(BASE, handler=handler),
            "resolver": PipToolsResolver(),
        }
        return Locking(**(values | fields))

    return make


# --- the target ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("base", "version"), [(BASE, "3.11"), ("envlock/base:py3.13", "3.13")])
def test_the_target_is_the_bases_own(engine, base, version):
    with engine.container(base) as container:
        found = probe(container, wanted=version)
        libc = container.run(["ldd", "--version"]).stdout.decode().splitlines()[0].split()[-1]
    minor = version.replace(".", "")
    assert found.python.version.startswith(version + ".")
    assert found.python.libc == f"glibc {libc}"
    assert found.tags[0].startswith(f"cp{minor}-cp{minor}-")
    assert f"cp{minor}-cp{minor}-manylinux_{libc.replace('.', '_')}_x86_64" in found.tags
    assert f"cp{minor}-cp{minor}-manylinux_2_99_x86_64" not in found.tags
    assert found.python.markers["python_full_version"] == found.python.version
    assert os.uname().release not in found.python.markers.values()


# --- pip-tools and uv ------------------------------------------------------------------------------------------------

PACKAGES = offered(
    wheel("app", "1.0", requires=["numpy>=1", "rich[color]", 'old; python_version < "3.8"']),
    wheel("numpy", "1.9", tag="cp311-cp311-manylinux_2_17_x86_64"),
    wheel("numpy", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64"),
    wheel("numpy", "2.1", tag="cp312-cp312-manylinux_2_28_x86_64"),
    wheel("numpy", "2.2rc1", tag="cp311-cp311-manylinux_2_28_x86_64"),
    wheel("rich", "3", extras={"color": ["colors"]}, requires=["setuptools"]),
    wheel("rich", "4", extras={"color": ["colors"]}, requires_python=">=3.12"),
    wheel("colors", "1"),
    wheel("colors", "2", yanked="no"),
    wheel("setuptools", "70"),
    wheel("setuptools", "71"),
    wheel("torch", "2.9"),
    wheel("backtrack", "1", requires=["numpy"]),
    wheel("backtrack", "2", requires=["numpy<1"]),
)


@pytest.mark.parametrize(
    ("requirements", "constraints"),
    [
        (("app",), ()),
        (("app", "numpy<2"), ("setuptools<71",)),
        (("backtrack", "app"), ()),
        (("numpy==2.2rc1", 'gone; sys_platform == "win32"'), ()),
    ],
)
def test_both_resolvers_give_the_same_lock(locking, requirements, constraints):
    with index_server(PACKAGES) as server:
        first = locking(server).lock(*requirements, constraints=constraints)
        second = locking(server, resolver=UvResolver(os.environ)).lock(*requirements, constraints=constraints)
        assert not [path for _, path, _ in server.requests if path.endswith(".whl")]
    assert first == second
    assert first.wheels


def test_only_what_was_asked_moves(locking):
    with index_server(offered(wheel("a", "1", requires=["b"]), wheel("b", "1"), wheel("c", "1"))) as server:
        one = locking(server)
        first = one.lock("a", "c")
        server.add(wheel("a", "2", requires=["b>=2"]), wheel("b", "2"), wheel("c", "2"))
        assert one.lock("a", "c", previous=first) == first
        assert pins(one.lock("a", "c", previous=first, upgrade_packages=["c"])) == {"a": "1", "b": "1", "c": "2"}
        # b has to move with a although nobody asked: its pin is given up, and no other
        assert pins(one.lock("a>=2", "c", previous=first)) == {"a": "2", "b": "2", "c": "1"}


def test_a_local_version_from_a_bound_index(locking):
    cuda = wheel("torch", "2.1.2+cu118", tag="cp311-cp311-linux_x86_64", requires=["numpy"])
    with index_server(PACKAGES) as default, index_server([cuda, wheel("numpy", "9")], html_only=True) as pytorch:
        lock = locking(default).lock("torch", indexes=[Index(name="pytorch", url=pytorch.url, packages=("torch",))])
    assert pins(lock) == {"numpy": "2.0", "torch": "2.1.2+cu118"}


def refused(locking: Locking, *requirements: str, **options) -> Unresolvable:
    with pytest.raises(Unresolvable) as caught:
        locking.lock(*requirements, **options)
    assert len(caught.value.details) <= 30
    assert "/tmp/" not in " ".join(caught.value.details)
    return caught.value


def test_a_conflict_in_pips_own_words(locking):
    packages = offered(wheel("a", requires=["c<2"]), wheel("b", requires=["c>=2"]), wheel("c", "1"), wheel("c", "2"))
    with index_server(packages) as server:
        error = refused(locking(server), "a", "b")
    text = "\n".join(error.details)
    assert "The conflict is caused by" in text
    assert "a 1.0 depends on c<2" in text
    assert "b 1.0 depends on c>=2" in text


def test_what_the_target_cannot_have(locking):
    packages = offered(
        wheel("a", "1", tag="cp312-cp312-win_amd64"), sdist("old", "1.0"), wheel("b", requires=["nosuch"])
    )
    with index_server(packages) as server:
        assert "a has no wheel for the target" in refused(locking(server), "a").details[0]
        assert "sdist: [old]" in refused(locking(server), "old").hint
        assert "no index has a package nosuch" in refused(locking(server), "b").details


def test_a_base_that_is_too_old_for_pip_tools(locking, target):
    old = replace(target, python=replace(target.python, version="3.8.10"))
    with index_server(PACKAGES) as server, pytest.raises(InputError, match="needs Python") as caught:
        locking(server, interpreter=old).lock("app")
    assert "resolver: uv" in caught.value.hint


# --- nothing leaks ---------------------------------------------------------------------------------------------------


def test_no_setting_of_pip_leaks_into_the_result(locking, engine, monkeypatch, tmp_path):
    evil = {
        "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
        "PIP_EXTRA_INDEX_URL": "http://127.0.0.1:1/simple",
        "PIP_FIND_LINKS": "/srv/wheels",
        "PIP_NO_BINARY": ":all:",
        "PIP_PRE": "1",
        "PIP_CONSTRAINT": "/nonexistent",
        "PIP_REQUIRE_HASHES": "1",
        "http_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
        "UV_INDEX_URL": "http://127.0.0.1:1/simple",
        "UV_PRERELEASE": "allow",
    }
    with index_server(PACKAGES) as server:
        expected = locking(server).lock("app")
        for name, value in evil.items():
            monkeypatch.setenv(name, value)
        inside = locking(server, containers=lambda handler: engine.container(BASE, handler=handler, env=evil))
        assert inside.lock("app") == expected
        assert locking(server, resolver=UvResolver(os.environ)).lock("app") == expected


class Watching(PipToolsResolver):
    """Looks at everything that the engine knows while pip-tools runs, and leaves files to look at."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def resolve(self, *, container: Container, **others):
        client = docker.from_env()
        found = super().resolve(container=container, **others)
        for one in client.containers.list():
            self.seen.append(json.dumps(one.attrs))
        client.close()
        self.seen.append(
            container.run(["sh", "-c", "env; cat /proc/*/environ /proc/*/cmdline"]).stdout.decode("utf-8", "replace")
        )
        search = (
            "import os, sys; print([f for d, _, fs in os.walk('/tmp') for f in fs"
            " if sys.argv[1].encode() in open(os.path.join(d, f), 'rb').read()])"
        )
        assert container.run([others["target"].executable, "-c", search, SECRET]).stdout.strip() == b"[]"
        return found


def test_credentials_are_used_and_never_written(locking, tmp_path):
    watching = Watching()
    with index_server(PACKAGES, auth=("me", SECRET)) as server:
        one = locking(server, default_url=server.url_with("me", SECRET), resolver=watching)
        lock = one.lock("app")
        server.switches.auth = ("me", "changed")
        with pytest.raises(Exception, match="401") as caught:
            one.lock("torch")
    told = "\n".join([*one.progress.messages, *(n for task in one.progress.tasks for n in (task.title, *task.notes))])
    everything = [json.dumps(asdict(lock)), told, str(caught.value), str(caught.value.__dict__), *watching.seen]
    assert len(watching.seen) >= 2
    assert not [text for text in everything if SECRET in text]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert kept == []


# --- source distributions --------------------------------------------------------------------------------------------

REAL_PIP = installed_wheel("pip")
NO_NETWORK = """
import socket, urllib.error, urllib.request
assert [name for _, name in socket.if_nameindex()] == ["lo"], "a network"
try:
    urllib.request.urlopen("http://127.0.0.1:8629/simple/helper/")
except urllib.error.HTTPError as error:
    assert error.code == 404
else:
    raise SystemExit("an index")
import os
assert not [name for name in os.environ if name.upper().endswith("_PROXY")], "a proxy"
assert os.environ["SOURCE_DATE_EPOCH"] == "315532800"
import helper
"""


@contextmanager
def sdist_server(*packages) -> Iterator[Server]:
    with index_server([REAL_PIP, wheel("helper", "1"), wheel("helper", "2"), wheel("dep", "1"), *packages]) as server:
        yield server


def test_an_sdist_is_built_once_without_a_network_and_again_from_the_lock(locking, engine, tmp_path):
    old = sdist("old.thing", "1.0", requires=["dep"], build_requires=["helper<2"], check=NO_NETWORK)
    with sdist_server(old, wheel("user", requires=["old-thing"])) as server:
        one = locking(server)
        lock = one.lock("user", sdist=["old-thing"])
        assert pins(lock) == {"dep": "1", "old-thing": "1.0", "user": "1.0"}
        built = lock.wheels[1]
        assert (built.filename, built.required_by) == ("old_thing-1.0-py3-none-any.whl", ("user",))
        assert (built.built_from.filename, built.built_from.sha256) == (old.filename, old.sha256)
        assert [(w.name, w.version) for w in built.built_from.build_requires] == [("helper", "1")]
        assert [t.title for t in one.progress.tasks].count(f"Building {old.filename}") == 1
        assert ArtifactStore(tmp_path / "artifacts").has(built.sha256)

        again = one.lock("user", "dep", sdist=["old-thing"], previous=lock)
        assert again.wheels[1] == built
        assert [t.title for t in one.progress.tasks].count(f"Building {old.filename}") == 1

        # another machine: nothing in the store
        whole = replace(as_lock(lock), base=replace(as_lock(lock).base, python=one.interpreter.python))
        index = PackageIndexes(whole.python_sources, http=http_client(), default_url=server.url, root=tmp_path)
        store = ArtifactStore(tmp_path / "elsewhere")

        def rebuild(wanted) -> Path:
            files = store.fetch(source.build_inputs(wanted), progress=Remembering())
            return rebuild_wheel(
                wanted,
                files=files,
                installer=whole.installer,
                containers=one.containers,
                python=whole.base.python.executable,
                artifacts=store,
            )

        source = WheelSource(whole, index=index, rebuild=rebuild)
        fetched = store.fetch(source.wanted(), progress=Remembering())
        assert len(fetched) == 4
        with pytest.raises(HashMismatch, match="came out different"):
            rebuild(replace(built, sha256="0" * 64))


def test_an_sdist_is_not_built_for_nothing(locking):
    broken = sdist("old", "2.0", fail="no way")
    with sdist_server(broken, wheel("old", "1.0")) as server:
        one = locking(server)
        assert pins(one.lock("old<2", sdist=["old"])) == {"old": "1.0"}
        error = refused(one, "old", sdist=["old"])
    assert "old-2.0.tar.gz cannot be built in the base" in error.message
    assert "no way" in "\n".join(error.details)


def test_what_only_the_build_backend_knows_that_it_needs(locking):
    with sdist_server(sdist("old", "1.0", asks=["helper"], check="import helper")) as server:
        (built,) = locking(server).lock("old", sdist=["old"]).wheels
    assert [(w.name, w.version) for w in built.built_from.build_requires] == [("helper", "2")]


def test_build_requirements_that_are_not_there(locking):
    with sdist_server(sdist("old", "1.0", build_requires=["missing-backend"])) as server:
        error = refused(locking(server), "old", sdist=["old"])
    assert "no index has a package missing-backend" in error.details


def test_a_hostile_sdist_is_not_unpacked(locking):
    import tarfile

    outside = tarfile.TarInfo("old-1.0/../../etc/cron.d/evil")
    with sdist_server(sdist("old", "1.0", extra_members=[outside])) as server, pytest.raises(InputError) as caught:
        locking(server).lock("old", sdist=["old"])
    assert "outside of its folder" in caught.value.message


# --- a real list -----------------------------------------------------------------------------------------------------


@pytest.mark.network
def test_both_resolvers_give_the_same_lock_for_a_real_list(locking, tmp_path):
    pip_settings = read_pip_settings(os.environ, home=tmp_path, prefix=Path(sys.prefix))

    def client() -> IndexHttp:
        credentials = Credentials(environ=os.environ, home=tmp_path)
        return IndexHttp(pip_settings, credentials=credentials, environ=os.environ)

    wanted = ("scikit-learn", "mlflow-skinny", "transformers", "datasets")
    with index_server() as unused:
        url = pip_settings.index_url
        first = locking(unused, default_url=url, http=client()).lock(*wanted)
        second = locking(unused, default_url=url, http=client(), resolver=UvResolver(os.environ)).lock(*wanted)
    assert first == second
    assert len(first.wheels) > 40
