"""Package indexes on loopback, with everything that goes wrong."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from envlock.adapters.artifacts import ArtifactStore
from envlock.adapters.index_http import TRIES
from envlock.adapters.simple_pages import BadPage, project_of, read_page
from envlock.errors import HashMismatch, IndexFailed, InputError
from envlock.model.lock import PythonSource
from envlock.ports import IndexFile, Wanted
from tests.support.index_server import index_server, self_signed
from tests.support.locking import http_client, package_indexes
from tests.support.packages import save, sdist, wheel
from tests.support.progress import Remembering

DEMO = wheel("demo", "1.0", requires=["other>=1"], requires_python=">=3.8", uploaded="2024-01-01T00:00:00Z")
BIG = wheel("big", "1.0", files={"big/data.bin": os.urandom(3_000_000)})


def content(index, file) -> bytes:
    with index.open(file) as blocks:
        return b"".join(blocks)


@pytest.mark.parametrize("html_only", [False, True])
def test_both_forms_of_page_say_the_same(html_only):
    packages = [DEMO, wheel("demo", "2.0", yanked="broken"), sdist("demo", "1.0"), wheel("other")]
    with index_server(packages, html_only=html_only) as server:
        files = package_indexes(server.url).files("demo")
    assert [one.filename for one in files] == [one.filename for one in packages[:3]]
    assert [one.sha256 for one in files] == [one.sha256 for one in packages[:3]]
    assert [one.yanked for one in files] == [False, True, False]
    assert [one.requires_python for one in files] == [">=3.8", None, None]
    assert [one.metadata_sha256 is not None for one in files] == [True, True, False]
    assert [one.size for one in files] == ([None] * 3 if html_only else [len(one.content) for one in packages[:3]])
    assert files[0].url == f"{server.base}/files/{DEMO.filename}"


def test_an_unknown_project_is_no_fault():
    with index_server() as server:
        assert package_indexes(server.url).files("nothing") == []
        assert server.count("/simple/nothing/") == 1


def test_pages_are_asked_for_once():
    with index_server([DEMO]) as server:
        index = package_indexes(server.url)
        for _ in range(3):
            index.files("demo")
        assert server.count("/simple/demo/") == 1


@pytest.mark.parametrize(
    "switches",
    [
        {"fail_times": TRIES - 1, "fail_status": 503},
        {"fail_times": 2, "fail_status": 429, "retry_after": "0"},
        {"drop_times": TRIES - 1},
    ],
)
def test_it_asks_again(switches):
    with index_server([DEMO], **switches) as server:
        assert package_indexes(server.url).files("demo")


@pytest.mark.parametrize("switches", [{"fail_times": 100, "fail_status": 500}, {"drop_times": 100}])
def test_it_gives_up_in_the_end(switches):
    with index_server([DEMO], **switches) as server, pytest.raises(IndexFailed, match=r"127\.0\.0\.1"):
        package_indexes(server.url).files("demo")


def test_nobody_there():
    with pytest.raises(IndexFailed, match="cannot be reached"):
        package_indexes("http://127.0.0.1:9/simple/").files("demo")


def test_a_slow_index_is_not_waited_for_without_end():
    with index_server([DEMO], delay=0.4) as server, pytest.raises(IndexFailed, match="in time"):
        package_indexes(server.url, http=http_client(timeout=0.05)).files("demo")


def test_something_that_is_no_index():
    with index_server([DEMO]) as server:
        index = package_indexes(f"{server.base}/files/{DEMO.filename}/..;/")
        server.packages.append(wheel("x"))
        assert index.files("demo") == []
    with pytest.raises(BadPage, match="text/plain"):
        read_page(b"hello", content_type="text/plain", url="http://127.0.0.1/", source="default", name="demo")
    with pytest.raises(BadPage, match="PEP 691"):
        read_page(b"{}", content_type="application/json", url="http://127.0.0.1/", source="default", name="demo")
    newer = b'{"meta": {"api-version": "2.0"}, "files": []}'
    with pytest.raises(BadPage, match=r"version 2\.0"):
        read_page(newer, content_type="application/json", url="http://127.0.0.1/", source="default", name="demo")


def test_plain_http_is_for_loopback_and_trusted_hosts_only():
    with pytest.raises(IndexFailed, match="not encrypted"):
        package_indexes("http://packages.example.org/simple").files("demo")


def test_a_company_with_certificates_of_its_own(tmp_path):
    certificate, key = self_signed(tmp_path)
    with index_server([DEMO], tls=(certificate, key)) as server:
        with pytest.raises(IndexFailed, match="no certificate that is known here") as caught:
            package_indexes(server.url).files("demo")
        assert "PIP_CERT" in caught.value.hint
        assert package_indexes(server.url, http=http_client(ca_bundle=certificate)).files("demo")
        assert package_indexes(server.url, http=http_client(trusted_hosts=("127.0.0.1",))).files("demo")
        nowhere = http_client(ca_bundle=str(tmp_path / "none.pem"))
        with pytest.raises(InputError, match="cannot be used"):
            package_indexes(server.url, http=nowhere).files("demo")


# --- credentials -----------------------------------------------------------------------------------------------------


def test_credentials_in_the_url():
    with index_server([DEMO], auth=("me", "p@ss/word")) as server:
        url = server.url_with("me", "p%40ss%2Fword")
        index = package_indexes(url)
        (file,) = index.files("demo")
        assert content(index, file) == DEMO.content
        assert "me" not in file.url


def test_credentials_in_netrc(tmp_path):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    netrc.chmod(0o600)
    with index_server([DEMO], auth=("me", "s3cret")) as server:
        assert package_indexes(server.url, http=http_client(home=tmp_path)).files("demo")
        moved = tmp_path / "elsewhere"
        netrc.rename(moved)
        http = http_client({"NETRC": str(moved)}, home=tmp_path)
        assert package_indexes(server.url, http=http).files("demo")


@pytest.mark.parametrize("user_in_url", [True, False])
def test_credentials_in_keyring(tmp_path, user_in_url):
    program = tmp_path / "bin" / "keyring"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        'if [ "$1" = get ]; then [ "$3" = me ] && echo s3cret; exit; fi\n'
        'echo \'{"username": "me", "password": "s3cret"}\'\n'
    )
    program.chmod(0o755)
    with index_server([DEMO, BIG], auth=("me", "s3cret")) as server:
        url = server.url.replace("//", "//me@") if user_in_url else server.url
        index = package_indexes(url, http=http_client({"PATH": f"{program.parent}:/usr/bin:/bin"}))
        assert index.files("demo")
        assert index.files("big")
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def test_refused_credentials_are_in_no_message():
    with index_server([DEMO], auth=("me", "right")) as server:
        index = package_indexes(server.url_with("me", "s3cret"))
        with pytest.raises(IndexFailed) as caught:
            index.files("demo")
    text = f"{caught.value.message} {caught.value.hint} {caught.value.details} {caught.value.__cause__}"
    assert "401" in text
    assert "s3cret" not in text
    assert "check them there" in caught.value.hint


def test_no_credentials_where_some_are_needed():
    with index_server([DEMO], auth=("me", "right")) as server, pytest.raises(IndexFailed) as caught:
        package_indexes(server.url).files("demo")
    assert "netrc" in caught.value.hint


def test_credentials_never_reach_another_host():
    with index_server([DEMO]) as other, index_server([DEMO], auth=("me", "s3cret")) as server:
        server.switches.redirect_files_to = other.base
        index = package_indexes(server.url_with("me", "s3cret"))
        (file,) = index.files("demo")
        assert content(index, file) == DEMO.content
        server.switches.absolute_files = other.base
        (file,) = package_indexes(server.url_with("me", "s3cret")).files("demo")
        assert content(index, file) == DEMO.content
        assert len(other.requests) == 2
        assert all("authorization" not in headers for _, _, headers in other.requests)
        assert all("authorization" in headers for _, _, headers in server.requests)


def test_redirects_are_followed_as_far_as_they_are_safe():
    with index_server([DEMO], auth=("her", "0ther")) as other, index_server([DEMO]) as server:
        server.switches.redirect_files_to = other.base
        http = http_client()
        http.credentials.take(other.url_with("her", "0ther"))  # known for that host: given to that host
        index = package_indexes(server.url, http=http)
        (file,) = index.files("demo")
        assert content(index, file) == DEMO.content
        server.switches.redirect_files_to = "http://packages.example.org"
        with pytest.raises(IndexFailed, match=r"packages\.example\.org.* not encrypted"):
            content(index, file)
        server.switches.redirect_files_to = server.base
        with pytest.raises(IndexFailed, match="more than 10 times"):
            content(index, file)
        server.switches.redirect_files_to = "file:///etc"
        with pytest.raises(IndexFailed, match="cannot be asked"):
            content(index, file)


def test_a_page_cannot_make_us_read_files_of_this_machine(tmp_path):
    save(DEMO, tmp_path / "files")
    with index_server([DEMO]) as server:
        server.switches.absolute_files = tmp_path.as_uri()
        assert package_indexes(server.url).files("demo") == []


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_drops_in_the_middle_goes_on_where_it_was(ranges):
    with index_server([BIG], cut_times=2, ranges=ranges) as server:
        index = package_indexes(server.url)
        (file,) = index.files("big")
        assert content(index, file) == BIG.content
        asked = [headers.get("range") for _, path, headers in server.requests if path.startswith("/files/")]
    assert asked[0] is None
    assert asked[1].startswith("bytes=")


@pytest.mark.parametrize(("metadata", "ranges"), [(True, True), (False, True), (False, False)])
def test_metadata_from_wherever_it_is(metadata, ranges):
    with index_server([DEMO, BIG], metadata=metadata, ranges=ranges) as server:
        index = package_indexes(server.url)
        for package in (DEMO, BIG):
            (file,) = index.files(package.name)
            assert index.metadata(file) == package.metadata
        if ranges:  # never the whole of a big wheel
            asked = [headers.get("range") for _, path, headers in server.requests if path == f"/files/{BIG.filename}"]
            assert all(asked)


def test_metadata_that_is_promised_and_not_kept_is_read_from_the_wheel():
    with index_server([DEMO]) as server:
        index = package_indexes(server.url)
        (file,) = index.files("demo")
        server.switches.metadata = False
        assert index.metadata(file) == DEMO.metadata


def test_metadata_with_another_hash_is_refused():
    with index_server([DEMO]) as server:
        server.switches.wrong_bytes.add(DEMO.filename + ".metadata")
        index = package_indexes(server.url)
        (file,) = index.files("demo")
        with pytest.raises(IndexFailed, match="sha256"):
            index.metadata(file)


def test_a_wheel_that_is_none():
    with index_server([DEMO], metadata=False) as server:
        server.switches.wrong_bytes.add(DEMO.filename)
        index = package_indexes(server.url)
        (file,) = index.files("demo")
        with pytest.raises(IndexFailed, match="not a wheel"):
            index.metadata(file)


def test_metadata_is_kept_by_the_hash_of_the_wheel(tmp_path):
    with index_server([DEMO]) as server:
        for _ in range(2):
            index = package_indexes(server.url, cache=tmp_path)
            assert index.metadata(index.files("demo")[0]) == DEMO.metadata
        assert server.count(f"/files/{DEMO.filename}.metadata") == 1


def test_a_size_that_the_page_does_not_say():
    with index_server([BIG], html_only=True) as server:
        index = package_indexes(server.url)
        (file,) = index.files("big")
        assert (file.size, index.size(file)) == (None, len(BIG.content))


def test_wrong_bytes_never_get_into_the_store(tmp_path):
    with index_server([BIG]) as server:
        server.switches.wrong_bytes.add(BIG.filename)
        index = package_indexes(server.url)
        (file,) = index.files("big")
        store = ArtifactStore(tmp_path)
        wanted = Wanted(title="big", sha256=file.sha256, size=file.size, open=lambda: index.open(file))
        with pytest.raises(HashMismatch):
            store.fetch([wanted], progress=Remembering())
        assert [one for one in tmp_path.rglob("*") if one.is_file()] == []


def test_many_threads_at_once():
    packages = [wheel(f"p{number}") for number in range(40)]
    with index_server(packages) as server:
        index = package_indexes(server.url)
        found: dict[str, int] = {}
        threads = [
            threading.Thread(target=lambda name=one.name: found.update({name: len(index.files(name))}))
            for one in packages
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {one.name: 1 for one in packages}


# --- which source ----------------------------------------------------------------------------------------------------


def source(name: str, url: str, *packages: str) -> PythonSource:
    return PythonSource(name=name, kind="index", location=url, packages=packages)


def test_a_bound_package_comes_from_its_index_alone():
    with index_server([wheel("torch", "2.0"), DEMO]) as default, index_server([]) as empty:
        index = package_indexes(default.url, source("pytorch", empty.url, "torch"))
        assert index.files("torch") == []
        assert index.files("demo")
        assert default.count("/simple/torch/") == 0
        assert empty.count("/simple/demo/") == 0


def test_the_first_source_with_the_project_supplies_it():
    with index_server([wheel("a", "1")]) as default, index_server([wheel("a", "9"), wheel("b", "9")]) as extra:
        index = package_indexes(default.url, source("extra", extra.url))
        assert [one.source for one in index.files("a")] == ["default"]
        assert [one.source for one in index.files("b")] == ["extra"]
        assert extra.count("/simple/a/") == 0


def test_find_links_stand_beside_an_index(tmp_path):
    for package in (wheel("a", "3"), wheel("a", "1"), wheel("mine", "1")):
        save(package, tmp_path / "wheels")
    (tmp_path / "wheels" / "notes.txt").write_text("no package")
    with index_server([wheel("a", "1"), wheel("a", "2")]) as default:
        links = PythonSource(name="wheels", kind="find-links", location="wheels")
        index = package_indexes(default.url, links, root=tmp_path)
        found = {one.filename.split("-")[1]: one.source for one in index.files("a")}
        assert found == {"1": "wheels", "2": "default", "3": "wheels"}
        (mine,) = index.files("mine")
        assert content(index, mine) == wheel("mine", "1").content
        assert index.metadata(mine) == wheel("mine", "1").metadata
        assert index.size(mine) == len(wheel("mine", "1").content)


def test_a_find_links_folder_that_is_not_there(tmp_path):
    index = package_indexes(
        "http://127.0.0.1:9/", PythonSource(name="w", kind="find-links", location="w"), root=tmp_path
    )
    with pytest.raises(InputError, match="no such file or directory"):
        index.files("demo")


def test_an_index_in_a_folder(tmp_path):
    save(DEMO, tmp_path / "files")
    page = tmp_path / "simple" / "demo" / "index.html"
    page.parent.mkdir(parents=True)
    digest = hashlib.sha256(DEMO.content).hexdigest()
    page.write_text(f'<a href="../../files/{DEMO.filename}#sha256={digest}">{DEMO.filename}</a>')
    index = package_indexes((tmp_path / "simple").as_uri())
    (file,) = index.files("demo")
    assert (file.sha256, content(index, file), index.files("none")) == (digest, DEMO.content, [])


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("Demo_X-1.0-py3-none-any.whl", "demo-x"),
        ("demo.x-1.0-2-py3-none-any.whl", "demo-x"),
        ("demo_x-1.0.tar.gz", "demo-x"),
        ("demo-x-1.0.tar.gz", "demo-x"),
        ("demo-x-1.0.zip", "demo-x"),
        ("demo-1.0.exe", None),
        ("demo-1.0-py3.whl", None),
        ("demo.tar.gz", None),
    ],
)
def test_whose_file_it_is(filename, expected):
    assert project_of(filename) == expected


def test_files_of_other_projects_are_left_out():
    page = '<a href="other-1.0-py3-none-any.whl">x</a><a href="demo-1.0-py3-none-any.whl">x</a><a>no link</a>'
    files = read_page(page.encode(), content_type="text/html", url="http://127.0.0.1/x/", source="s", name="demo")
    assert files == [
        IndexFile(
            source="s",
            filename="demo-1.0-py3-none-any.whl",
            url="http://127.0.0.1/x/demo-1.0-py3-none-any.whl",
            sha256=None,
            size=None,
            requires_python=None,
            yanked=False,
            uploaded=None,
            metadata_sha256=None,
        )
    ]


def test_a_base_element_moves_the_links():
    page = b'<base href="https://files.example.org/a/"><a href="demo-1.0-py3-none-any.whl#sha256=zz">x</a>'
    (file,) = read_page(page, content_type="text/html", url="http://127.0.0.1/x/", source="s", name="demo")
    assert (file.url, file.sha256) == ("https://files.example.org/a/demo-1.0-py3-none-any.whl", None)
