"""Locking apt packages with the base's own apt, on the real engine, against archives of our own."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
import requests

from envlock.adapters.apt_archive import HttpAptArchive
from envlock.adapters.deb_source import DebSource
from envlock.adapters.engine import DockerEngine
from envlock.errors import AptError, InputError, Unresolvable
from envlock.formats.debian import installed_packages, version_key
from envlock.lock.apt import AptLock, lock_apt
from envlock.lock.apt_gateway import AptGateway
from envlock.lock.cuda import base_cuda
from envlock.model.lock import Lock
from envlock.model.spec import Apt, AptRepository, AptRequest, ImageOptions, Requested, Spec
from envlock.ports import Container
from tests.support.debs import Archive, ArchiveServer, make_deb, serve
from tests.support.openpgp import signing_key
from tests.support.progress import Remembering

pytestmark = pytest.mark.engine

BASE = "envlock/base:py3.11"
KEYRING = "/usr/share/keyrings/test.gpg"


@pytest.fixture(scope="module")
def engine() -> DockerEngine:
    return DockerEngine(dict(os.environ))


@dataclass
class Desk:
    """One container of a base whose only repositories are ours, and what is needed to lock for it."""

    container: Container
    server: ArchiveServer
    gateway: AptGateway
    messages: list[str] = field(default_factory=list)

    def lock(
        self,
        *packages: str,
        previous: AptLock | None = None,
        upgrade: tuple[str, ...] = (),
        keys: Mapping[str, bytes] | None = None,
        **options: object,
    ) -> AptLock:
        requests_ = tuple(AptRequest(name=p.partition("=")[0], version=p.partition("=")[2] or None) for p in packages)
        apt = Apt(packages=requests_, **{k: options.pop(k) for k in ("repositories", "snapshot") if k in options})
        spec = Spec(name="demo", base=BASE, python="3.11", apt=apt, image=ImageOptions(repository="demo"), **options)
        progress = Remembering()
        try:
            return lock_apt(
                Requested(spec=spec, requirements=(), constraints=(), keys=keys or {}),
                container=self.container,
                gateway=self.gateway,
                previous=_lock_with(previous) if previous else None,
                upgrade=upgrade,
                progress=progress,
            )
        finally:
            self.messages = progress.messages

    def sources(self, text: str) -> None:
        """Replace the base's list of repositories, in whichever of its two places the base keeps it."""
        self.container.run(["rm", "-f", "/etc/apt/sources.list"])
        self.container.put(
            {
                "/etc/apt/sources.list.d/debian.sources": text.encode(),
                KEYRING: signing_key("Test Archive <archive@example.org>").public,
            }
        )

    def install_offline(self, lock: AptLock) -> str:
        """Fetch a lock's files as a build does, and install them; return what dpkg finds wrong afterwards."""
        whole = _lock_with(lock)
        base_files = dict(self.container.files("/etc/apt"))
        source = DebSource(whole, archive=self.gateway.archive, base_files=lambda: base_files)
        files = {}
        for deb, wanted in zip(whole.debs, source.wanted(), strict=True):
            with wanted.open() as body:
                files[f"/tmp/debs/{deb.filename}"] = b"".join(body)
            assert hashlib.sha256(files[f"/tmp/debs/{deb.filename}"]).hexdigest() == deb.sha256
        self.container.run(["rm", "-rf", "/tmp/debs"])
        self.container.put(files)
        done = self.container.run([*OFFLINE, *files], env={"DEBIAN_FRONTEND": "noninteractive"})
        assert done.exit_code == 0, done.stdout.decode() + done.stderr.decode()
        return self.container.run(["dpkg", "--audit"]).stdout.decode()

    def install(self, name: str, version: str) -> None:
        """Make dpkg believe that the base has a package."""
        entry = f"Package: {name}\nStatus: install ok installed\nVersion: {version}\nArchitecture: amd64\n\n"
        status = self.container.read("/var/lib/dpkg/status") or b""
        self.container.put({"/var/lib/dpkg/status": status + entry.encode()})


def _lock_with(part: AptLock) -> Lock:
    from tests.support.locks import make_lock

    return replace(make_lock(), debs=part.debs, apt_sources=part.sources)


def _paragraph(uri: str, suite: str = "stable", **fields: str) -> str:
    extra = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in fields.items())
    return f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n{extra}\n"


@contextmanager
def _desk(engine: DockerEngine, base: str = BASE, **archives: Archive) -> Iterator[Desk]:
    with serve(**archives) as server, requests.Session() as session:
        gateway = AptGateway(HttpAptArchive(session, retries=0))
        with engine.container(base, handler=gateway) as container:
            desk = Desk(container=container, server=server, gateway=gateway)
            desk.sources("".join(_paragraph(server.uri(name), a.suite) for name, a in server.archives.items()))
            yield desk


def _names(lock: AptLock) -> dict[str, str]:
    return {deb.name: deb.version for deb in lock.debs}


APP = [
    make_deb(
        "app", "2.0-1", depends="libapp (>= 2), app-common (= 2.0-1)", recommends="app-doc", pre_depends="app-first"
    ),
    make_deb("libapp", "2.1-1+b1", source="libapp-src (2.1-1)", depends="libc6"),
    make_deb("app-common", "2.0-1", architecture="all", source="app"),
    make_deb("app-first"),
    make_deb("app-doc"),
    make_deb("epoch", "1:2.39.5-0+deb12u2"),
]


def test_the_whole_closure_with_hashes_from_the_signed_index(engine: DockerEngine) -> None:
    with _desk(engine, archive=Archive(debs=APP)) as desk:
        lock = desk.lock("app", "epoch")
        assert _names(lock) == {
            "app": "2.0-1",
            "app-common": "2.0-1",
            "app-first": "1.0-1",
            "epoch": "1:2.39.5-0+deb12u2",
            "libapp": "2.1-1+b1",
        }
        built = {deb.name: deb for deb in APP}
        for deb in lock.debs:
            assert (deb.sha256, deb.size, deb.path) == (
                built[deb.name].sha256,
                len(built[deb.name].content),
                built[deb.name].path,
            )
        assert {deb.name: deb.architecture for deb in lock.debs}["app-common"] == "all"
        assert [deb.name for deb in lock.debs if deb.requested] == ["app", "epoch"]
        (source,) = lock.sources
        assert (source.name, source.suite, source.components, source.uri) == ("stable", "stable", ("main",), None)
        assert desk.lock("app", "epoch") == lock
        assert not any(".deb" in path for path in desk.server.asked), "a lock fetches no package"


def test_the_base_keeps_its_own_lists_and_configuration(engine: DockerEngine) -> None:
    with _desk(engine, archive=Archive(debs=APP)) as desk:

        def seen() -> dict[str, bytes]:
            folders = ("/etc/apt", "/var/lib/apt", "/var/cache/apt", "/var/lib/dpkg")
            return {f"{top}/{path}": content for top in folders for path, content in desk.container.files(top)}

        before = seen()
        desk.lock("app")
        assert seen() == before


def test_a_pin_takes_an_older_version_and_its_siblings_along(engine: DockerEngine) -> None:
    debs = [
        make_deb(
            name, version, depends=f"tool-data (= {version})" if name == "tool" else "base-files", source="tool-src"
        )
        for version in ("1.0-1", "1.1-1", "2.0-1")
        for name in ("tool", "tool-data")
    ]
    with _desk(engine, archive=Archive(debs=debs)) as desk:
        assert _names(desk.lock("tool")) == {"tool": "2.0-1", "tool-data": "2.0-1"}
        assert _names(desk.lock("tool=1.0-1")) == {"tool": "1.0-1", "tool-data": "1.0-1"}


def test_what_does_not_exist_names_the_nearest(engine: DockerEngine) -> None:
    debs = [make_deb("frobnicate", v) for v in ("1.0-1", "1.1-1", "2.0-1")] + [
        make_deb("frobnicator"),
        make_deb("other"),
    ]
    with _desk(engine, archive=Archive(debs=debs)) as desk:
        with pytest.raises(Unresolvable) as version:
            desk.lock("frobnicate=1.0-2")
        assert str(version.value) == "apt has no frobnicate 1.0-2; it has 2.0-1, 1.1-1, 1.0-1"
        with pytest.raises(
            Unresolvable, match=r"^apt has no package frobnicat; there is frobnicat(e|or), frobnicat(e|or)$"
        ):
            desk.lock("frobnicat")
        with pytest.raises(Unresolvable, match="2 apt packages") as both:
            desk.lock("frobnicate=9", "zzzzzz", "other")
        assert both.value.details == (
            "apt has no frobnicate 9; it has 2.0-1, 1.1-1, 1.0-1",
            "apt has no package zzzzzz",
        )


@pytest.mark.parametrize("name", ["frob.icate", "frobnicate-", "frobnicat+"])
def test_a_name_is_never_an_expression_or_a_removal(engine: DockerEngine, name: str) -> None:
    with (
        _desk(engine, archive=Archive(debs=[make_deb("frobnicate")])) as desk,
        pytest.raises(Unresolvable, match="no package"),
    ):
        desk.lock(name)


def test_virtual_packages(engine: DockerEngine) -> None:
    debs = [make_deb("one", provides="only-one, many"), make_deb("two", provides="many")]
    with _desk(engine, archive=Archive(debs=debs)) as desk:
        lock = desk.lock("only-one")
        assert [(deb.name, deb.requested) for deb in lock.debs] == [("one", True)]
        with pytest.raises(Unresolvable, match=r"^many is a virtual package; take one of one, two$"):
            desk.lock("many")


def test_installed_packages_are_left_alone(engine: DockerEngine) -> None:
    newer = make_deb("base-files", "99")
    with _desk(engine, archive=Archive(debs=[newer, *APP])) as desk:
        installed = desk.container.run(["dpkg-query", "-W", "-f", "${Version}", "base-files"]).stdout.decode()
        assert desk.lock("base-files") == AptLock()
        assert desk.lock(f"base-files={installed}") == AptLock()
        assert desk.server.asked == [], "what the base has needs no archive"
        assert "base-files" not in _names(desk.lock("base-files", "app"))
        assert _names(desk.lock("base-files=99")) == {"base-files": "99"}


def test_a_pin_below_the_installed_version_downgrades(engine: DockerEngine) -> None:
    older = make_deb("tzdata-like", "1.0")
    with _desk(engine, archive=Archive(debs=[older, make_deb("tzdata-like", "2.0")])) as desk:
        desk.install("tzdata-like", "3.0")
        assert _names(desk.lock("tzdata-like=1.0")) == {"tzdata-like": "1.0"}


def test_what_moves_in_the_base_is_said(engine: DockerEngine) -> None:
    debs = [make_deb("tool", depends="lib-like (= 0.5)"), make_deb("lib-like", "9"), make_deb("lib-like", "0.5")]
    with _desk(engine, archive=Archive(debs=debs)) as desk:
        desk.install("lib-like", "1.0")
        assert _names(desk.lock("tool")) == {"tool": "1.0-1", "lib-like": "0.5"}
        assert desk.messages == ["apt: this moves the base's lib-like from 1.0 to 0.5"]


def test_conflicts_show_apts_own_explanation(engine: DockerEngine) -> None:
    debs = [make_deb("left", conflicts="right"), make_deb("right"), make_deb("broken", depends="libmissing (>= 3)")]
    with _desk(engine, archive=Archive(debs=debs)) as desk:
        with pytest.raises(Unresolvable, match="left, right together") as both:
            desk.lock("left", "right")
        assert any("left : Conflicts: right" in line for line in both.value.details)
        with pytest.raises(Unresolvable) as unmet:
            desk.lock("broken")
        assert any("broken : Depends: libmissing (>= 3)" in line for line in unmet.value.details)
        assert not any("Reading package lists" in line for line in unmet.value.details)


def test_a_removal_from_the_base_is_said(engine: DockerEngine) -> None:
    with _desk(engine, archive=Archive(debs=[make_deb("lonely", conflicts="libexpat-like")])) as desk:
        desk.install("libexpat-like", "1")
        assert _names(desk.lock("lonely")) == {"lonely": "1.0-1"}
        assert desk.messages == ["apt: this takes out of the base: libexpat-like"]


# --- locking again ----------------------------------------------------------------------------------------------------


def test_what_is_locked_stays_while_the_archive_has_it(engine: DockerEngine) -> None:
    old = [make_deb("tool", "1.0", depends="lib"), make_deb("lib", "1.0")]
    archive = Archive(debs=list(old))
    with _desk(engine, archive=archive) as desk:
        first = desk.lock("tool")
        archive.debs += [make_deb("tool", "2.0", depends="lib"), make_deb("lib", "2.0"), make_deb("more")]
        assert _names(desk.lock("tool", "more", previous=first)) == {"tool": "1.0", "lib": "1.0", "more": "1.0-1"}
        assert _names(desk.lock("tool", previous=first, upgrade=("lib",))) == {"tool": "1.0", "lib": "2.0"}
        assert _names(desk.lock("tool")) == {"tool": "2.0", "lib": "2.0"}
        assert desk.messages == []
        archive.debs.remove(old[1])
        assert _names(desk.lock("tool", previous=first)) == {"tool": "1.0", "lib": "2.0"}
        assert desk.messages == ["apt: lib 1.0 is no longer in stable; took 2.0"]


def test_only_what_is_in_the_way_moves(engine: DockerEngine) -> None:
    debs = [
        make_deb("tool", "1.0", depends="lib (= 1.0), other"),
        make_deb("tool", "2.0", depends="lib (= 2.0), other"),
        make_deb("lib", "1.0"),
        make_deb("lib", "2.0"),
        make_deb("other", "1.0"),
    ]
    archive = Archive(debs=debs)
    with _desk(engine, archive=archive) as desk:
        first = desk.lock("tool=1.0")
        assert _names(first) == {"tool": "1.0", "lib": "1.0", "other": "1.0"}
        archive.debs.append(make_deb("other", "2.0"))
        assert _names(desk.lock("tool=2.0", previous=first)) == {"tool": "2.0", "lib": "2.0", "other": "1.0"}
        assert desk.messages == ["apt: lib 1.0 does not fit what is asked for now; took 2.0"]


# --- repositories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("armoured", [True, False])
def test_a_further_repository_with_its_own_key(engine: DockerEngine, armoured: bool) -> None:
    key = signing_key("Vendor <vendor@example.org>")
    vendor = Archive(debs=[make_deb("vendor-tool", depends="app-first")], suite="rolling", key=key)
    with _desk(engine, archive=Archive(debs=APP)) as desk, serve(vendor=vendor) as other:
        repository = AptRepository(
            name="vendor", uri=other.uri("vendor"), suite="rolling", components=("main",), key="v.gpg"
        )
        keys = {"vendor": key.armoured if armoured else key.public}
        lock = desk.lock("vendor-tool", repositories=(repository,), keys=keys)
        assert {deb.name: deb.source for deb in lock.debs} == {"vendor-tool": "vendor", "app-first": "stable"}
        assert [(source.name, source.uri) for source in lock.sources] == [
            ("stable", None),
            ("vendor", other.uri("vendor")),
        ]
        assert lock.sources[1].key_sha256 is not None
        wrong = {"vendor": signing_key("Test Archive <archive@example.org>").public}
        with pytest.raises(AptError, match="signature of the apt repository vendor cannot be verified"):
            desk.lock("vendor-tool", repositories=(repository,), keys=wrong)


def test_flat_repositories_and_one_line_entries(engine: DockerEngine) -> None:
    with _desk(engine, archive=Archive(debs=[make_deb("flat-tool")], flat=True)) as desk:
        desk.container.run(["rm", "/etc/apt/sources.list.d/debian.sources"])
        line = f"deb [arch=amd64 signed-by={KEYRING}] {desk.server.uri('archive')} ./\n"
        desk.container.put({"/etc/apt/sources.list.d/cuda-vendor.list": line.encode()})
        lock = desk.lock("flat-tool")
        assert [(source.name, source.suite, source.components) for source in lock.sources] == [
            ("cuda-vendor", "./", ())
        ]
        assert lock.debs[0].path == APP[3].path.replace("app-first", "flat-tool").replace("/a/", "/f/")


def test_a_foreign_architecture_in_the_base(engine: DockerEngine) -> None:
    debs = [
        make_deb("both", architecture="i386", multi_arch="same"),
        make_deb("both", multi_arch="same"),
        make_deb("lonely", architecture="i386"),
    ]
    with _desk(engine, archive=Archive(debs=debs, architectures=("amd64", "i386"))) as desk:
        desk.container.run(["dpkg", "--add-architecture", "i386"])
        assert [deb.architecture for deb in desk.lock("both").debs] == ["amd64"]
        lock = desk.lock("both", "both:i386", "lonely:i386")
        assert [(deb.name, deb.architecture, deb.requested) for deb in lock.debs] == [
            ("both", "amd64", True),
            ("both", "i386", True),
            ("lonely", "i386", True),
        ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": None}, "signature of the apt repository stable cannot be verified"),
        (
            {"key": signing_key("Somebody <else@example.org>")},
            "signature of the apt repository stable cannot be verified",
        ),
        (
            {"other_packages": b"Package: app\nVersion: 9\nArchitecture: amd64\n"},
            "are not what its signed Release file says",
        ),
        ({"valid_until": time.time() - 86400}, "have expired"),
    ],
    ids=["unsigned", "another key", "changed index", "expired"],
)
@pytest.mark.parametrize("base", [BASE, "envlock/base:py3.13"])
def test_nothing_untrusted_is_taken(engine: DockerEngine, base: str, change: dict[str, object], message: str) -> None:
    with _desk(engine, base, archive=replace(Archive(debs=APP), **change)) as desk:
        desk.container.put(
            {
                "/etc/apt/apt.conf.d/99lax": b'Acquire::AllowInsecureRepositories "1";\n'
                b'APT::Get::AllowUnauthenticated "1";\n'
            }
        )
        with pytest.raises(AptError, match=message) as raised:
            desk.lock("app")
        assert raised.value.details
        assert "8629" not in "".join(raised.value.details), "the real address, not the gateway's"


def test_an_index_without_sha256_is_refused(engine: DockerEngine) -> None:
    with (
        _desk(engine, archive=Archive(debs=APP, sha256=False)) as desk,
        pytest.raises(AptError, match="gives no SHA256"),
    ):
        desk.lock("app-first")


def test_an_archive_that_is_not_there(engine: DockerEngine) -> None:
    with _desk(engine, archive=Archive(debs=APP)) as desk:
        desk.sources(_paragraph(desk.server.uri("archive"), "unstable"))
        with pytest.raises(AptError, match="the apt repository unstable is not there"):
            desk.lock("app")
        desk.sources(_paragraph("http://127.0.0.1:9/debian"))
        with pytest.raises(AptError, match=r"127\.0\.0\.1:9/debian.* cannot be reached"):
            desk.lock("app")


def test_a_connection_that_breaks_is_taken_up_again(engine: DockerEngine) -> None:
    with _desk(engine, archive=Archive(debs=APP)) as desk:
        desk.server.dropped["Packages.gz"] = 1
        desk.server.missing.add("Packages")
        assert "app" in _names(desk.lock("app"))
        assert desk.server.dropped["Packages.gz"] == 0


def test_a_proxy_in_the_base_is_not_used(engine: DockerEngine) -> None:
    with _desk(engine, archive=Archive(debs=APP)) as desk:
        desk.container.put({"/etc/apt/apt.conf.d/99proxy": b'Acquire::http::Proxy "http://127.0.0.1:9";\n'})
        assert "app" in _names(desk.lock("app"))


def test_a_base_without_apt(engine: DockerEngine) -> None:
    with _desk(engine, archive=Archive(debs=APP)) as desk:
        desk.container.run(["rm", "/usr/bin/apt-get"])
        with pytest.raises(InputError, match="has no apt"):
            desk.lock("app")
        assert desk.lock() == AptLock()


# --- as of a date -----------------------------------------------------------------------------------------------------


def test_as_of_takes_the_snapshot_that_the_release_file_names(engine: DockerEngine) -> None:
    then = Archive(debs=[make_deb("tool", "1.0")], valid_until=time.time() - 86400)
    now = Archive(debs=[make_deb("tool", "2.0")])
    with _desk(engine, archive=now) as desk, serve(**{"20260131T000000Z": then}) as service:
        now.snapshots = f"{service.url}/@SNAPSHOTID@/"
        assert _names(desk.lock("tool")) == {"tool": "2.0"}
        lock = desk.lock("tool", as_of="2026-01-31")
        assert _names(lock) == {"tool": "1.0"}
        assert lock.sources[0].uri is None


def test_as_of_with_the_specs_own_service(engine: DockerEngine) -> None:
    then = Archive(debs=[make_deb("tool", "1.0")])
    with _desk(engine, archive=Archive(debs=[make_deb("tool", "2.0")])) as desk, serve(old=then) as service:
        lock = desk.lock("tool", as_of="2026-01-31T12:00:00Z", snapshot=service.url + "/old/{archive}/../../old")
        assert _names(lock) == {"tool": "1.0"}


def test_as_of_without_a_service_says_what_to_set(engine: DockerEngine) -> None:
    with (
        _desk(engine, archive=Archive(debs=APP)) as desk,
        pytest.raises(InputError, match="names no snapshot service") as raised,
    ):
        desk.lock("app", as_of="2026-01-31")
    assert "apt.snapshot" in raised.value.hint


# --- and at build time ------------------------------------------------------------------------------------------------

OFFLINE = [
    *(
        "apt-get",
        "install",
        "-y",
        "-q",
        "--no-install-recommends",
        "--allow-downgrades",
        "--allow-change-held-packages",
    ),
    *("-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=/dev/null"),
    *("-o", "Dir::State::lists=/tmp/apt-lists", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="),
    *("-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0"),
    *("-o", "DPkg::Options::=--force-unsafe-io", "-o", "DPkg::Options::=--force-confold"),
]


def test_the_closure_of_a_lock_installs_without_a_network(engine: DockerEngine) -> None:
    """Pre-dependencies, a downgrade, a removal, a maintainer script that needs a dependency: apt does all in order."""
    first = make_deb(
        "app-first",
        files={"/usr/bin/app-first": b"#!/bin/sh\necho first\n"},
        scripts={"postinst": "#!/bin/sh\nchmod 755 /usr/bin/app-first\n"},
    )
    app = make_deb(
        "app",
        "2.0-1",
        pre_depends="app-first",
        depends="lib-like",
        conflicts="in-the-way",
        files={"/etc/app.conf": b"x"},
        conffiles=("/etc/app.conf",),
        scripts={"preinst": "#!/bin/sh -e\n/usr/bin/app-first\n"},
    )
    older, newer = make_deb("lib-like", "0.5"), make_deb("lib-like", "1.0")
    archive = Archive(debs=[app, first, older, newer, make_deb("in-the-way")])
    with _desk(engine, archive=archive) as desk:
        before = desk.lock("lib-like", "in-the-way")
        assert desk.install_offline(before) == ""
        lock = desk.lock("app", "lib-like=0.5")
        assert _names(lock) == {"app": "2.0-1", "app-first": "1.0-1", "lib-like": "0.5"}
        assert desk.messages == ["apt: this takes out of the base: in-the-way"]
        assert desk.install_offline(lock) == ""
        status = installed_packages((desk.container.read("/var/lib/dpkg/status") or b"").decode())
        ours = {"app", "app-first", "lib-like", "in-the-way"}
        assert {package.name: package.version for package in status if package.name in ours} == _names(lock)


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [BASE, "envlock/base:py3.13"])
def test_git_from_the_bases_own_archive(engine: DockerEngine, base: str) -> None:
    with requests.Session() as session:
        gateway = AptGateway(HttpAptArchive(session))
        with engine.container(base, handler=gateway) as container:
            spec = Spec(
                name="demo",
                base=base,
                python="3.11",
                apt=Apt(packages=(AptRequest(name="git"),)),
                image=ImageOptions(repository="demo"),
            )
            lock = lock_apt(
                Requested(spec=spec, requirements=(), constraints=()),
                container=container,
                gateway=gateway,
                previous=None,
                progress=Remembering(),
            )
    found = {deb.name: deb for deb in lock.debs}
    assert {"git", "git-man", "liberror-perl"} <= set(found)
    assert version_key(found["git"].version) > version_key("1:2.30")
    assert all(len(deb.sha256) == 64 and deb.size > 1000 and deb.path.startswith("pool/") for deb in lock.debs)
    assert {source.name for source in lock.sources} <= {
        f"{s}{x}" for s in ("bookworm", "trixie") for x in ("", "-updates", "-security")
    }


def test_cuda_in_a_base(engine: DockerEngine) -> None:
    with engine.container("envlock/base:py3.11-cuda11.8") as container:
        assert base_cuda(container) == "11.8"
    with engine.container(BASE) as container:
        assert base_cuda(container) is None
