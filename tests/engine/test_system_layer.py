"""System packages, installed on the real engine and taken out as a layer."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.compose.system import SystemPackages, make
from envlock.errors import BuildFailed
from envlock.layers.tree import read_tree
from envlock.model.lock import Deb
from envlock.verify import compare_trees, expected_tree
from tests.engine.conftest import docker
from tests.support.building import Goods, lock_on
from tests.support.debs import make_deb
from tests.support.progress import Remembering

pytestmark = pytest.mark.engine

BASE = "envlock/base:py3.11"
ENGINE = Path(__file__).parents[2] / ".ci" / "engine"

POSTINST = r"""#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
date +%s.%N > /var/log/app.log
echo "$RANDOM $$" > /run/app.pid
mkdir -p /var/cache/fontconfig /var/cache/app
date +%s.%N > /var/cache/fontconfig/x.cache-7
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' > /etc/machine-id
cp -p /etc/passwd /etc/passwd-
echo app:x:990:990::/nonexistent:/usr/sbin/nologin >> /etc/passwd
cat /etc/group > /etc/group.new && mv /etc/group.new /etc/group
hostname > /etc/app.host
rm /etc/issue
rm -r /usr/share/base-files
ln /usr/bin/app /usr/bin/app-twin
mkfifo /var/cache/app/pipe
chown 990:990 /var/cache/app
chmod 2750 /var/cache/app
python3 - << END
import os
os.setxattr("/usr/bin/app", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
END
python3 -m compileall -q /usr/lib/app
/usr/sbin/policy-rc.d && touch /etc/services-may-start
(while true; do date +%s.%N > /etc/app.running; sleep 0.01; done) >/dev/null 2>&1 &
sleep 0.1
rm -f /etc/app.running
kill $!
rm -f /etc/app.running
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    found = DockerEngine(os.environ)
    yield found
    found.close()


def closure() -> list[Any]:
    return [
        make_deb(
            "app",
            files={
                "/usr/bin/app": b"#!/bin/sh\n",
                "/usr/lib/app/mod.py": b"x = 1\n",
                "/etc/app.conf": b"a = 1\n",
                f"/usr/share/app/{'long-' * 40}": b"x",
            },
            conffiles=("/etc/app.conf",),
            scripts={"postinst": POSTINST},
            pre_depends="libfirst",
        ),
        make_deb("libfirst", files={"/usr/lib/x86_64-linux-gnu/libfirst.so": bytes(300_000)}),
    ]


def layer(engine: DockerEngine, tmp_path: Path, debs: list[Any]) -> bytes:
    goods = Goods()
    locked: tuple[Deb, ...] = tuple(goods.deb(made) for made in debs)
    files = {}
    for sha256, content in goods.content.items():
        files[sha256] = tmp_path / sha256
        files[sha256].write_bytes(content)
    base = lock_on(engine, BASE, Goods()).base
    written: list[bytes] = []
    make(
        SystemPackages(base=base, debs=locked),
        written.append,
        image=BASE,
        installer=engine,
        files=files,
        progress=Remembering(),
    )
    return b"".join(written)


def entries(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {made.name: made for made in archive}


def content_of(content: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


def leftovers(mark: str) -> list[str]:
    """Return the containers that have this text in their command or environment."""
    names = docker("ps", "--all", "--quiet", "--filter", "label=envlock=install").split()
    inspect = ("docker", "inspect", "--format", "{{json .Config}}")
    return [
        name
        for name in names
        if mark in subprocess.run([*inspect, name], check=False, capture_output=True, text=True).stdout
    ]


@pytest.fixture(scope="module")
def made(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return layer(engine, tmp_path_factory.mktemp("debs"), closure())


def test_the_same_bytes_when_it_is_done_again(engine: DockerEngine, tmp_path: Path, made: bytes) -> None:
    assert layer(engine, tmp_path, closure()) == made


def test_what_is_in_it_and_what_is_not(made: bytes) -> None:
    found = entries(made)
    files = {name for name, it in found.items() if not it.isdir()}
    mine = {name for name in files if "dpkg" not in name and "/apt/" not in name and "debconf" not in name}
    assert mine == {
        "etc/.wh.issue",
        "etc/app.conf",
        "etc/app.host",
        "etc/machine-id",
        "etc/passwd",
        "usr/bin/app",
        "usr/bin/app-twin",
        "usr/lib/app/__pycache__/mod.cpython-311.pyc",
        "usr/lib/app/mod.py",
        "usr/lib/x86_64-linux-gnu/libfirst.so",
        "usr/share/.wh.base-files",
        f"usr/share/app/{'long-' * 40}",
        "var/cache/app/pipe",
    }
    assert "var/lib/dpkg/status" in files
    assert "var/lib/dpkg/info/app.list" in files
    assert not any(it.mtime for it in found.values())  # these packages are of 1970


def test_owners_modes_capabilities_and_links_are_kept(made: bytes) -> None:
    found = entries(made)
    cache = found["var/cache/app"]
    assert (cache.uid, cache.gid, cache.mode) == (990, 990, 0o2750)
    assert found["var/cache/app/pipe"].isfifo()
    assert found["usr/bin/app-twin"].linkname == "usr/bin/app"
    for name in ("usr/bin/app", "usr/bin/app-twin"):  # with each name: see the agent
        assert "SCHILY.xattr.security.capability" in found[name].pax_headers
    assert content_of(made, "etc/app.host") == b"envlock\n"


def test_compiled_files_stay_valid(made: bytes) -> None:
    # SOURCE_DATE_EPOCH makes Python name the source's hash in them, and not its time (PEP 552)
    assert content_of(made, "usr/lib/app/__pycache__/mod.cpython-311.pyc")[4:8] == b"\x03\0\0\0"


def test_the_layer_unpacks_to_what_was_installed(engine: DockerEngine, tmp_path: Path, made: bytes) -> None:
    image = loaded(tmp_path, made)
    try:

        @contextmanager
        def opened() -> Iterator[IO[bytes]]:
            yield io.BytesIO(made)

        with engine.tree(image) as tar:
            found = read_tree(tar, layer=False)
        assert compare_trees(expected_tree(lambda: engine.tree(BASE), [opened]), found) == ()
        assert "etc/issue" not in found.nodes
        with engine.container(image) as container:
            script = (
                "import os; a = '/usr/bin/app'; print(os.getxattr(a, 'security.capability').hex(), os.stat(a).st_nlink)"
            )
            assert container.run(["python3", "-c", script]).stdout.split() == [b"01000002002" + b"0" * 29, b"2"]
            assert container.run(["dpkg", "--audit"]).stdout == b""
    finally:
        engine.remove(image)


def loaded(tmp_path: Path, layer: bytes) -> str:
    """Load an image that is the base with a layer on it, the way that `docker save` writes images."""
    docker("save", "--output", str(tmp_path / "image.tar"), BASE)
    folder = tmp_path / "image"
    with tarfile.open(tmp_path / "image.tar") as archive:
        archive.extractall(folder, filter="tar")
    manifest = json.loads((folder / "manifest.json").read_text())[0]
    config = json.loads((folder / manifest["Config"]).read_text())
    config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(layer).hexdigest())
    config["history"].append({"created_by": "test"})
    manifest |= {"Layers": [*manifest["Layers"], "new.tar"], "Config": "new.json", "RepoTags": None}
    for name, content in {"new.tar": layer, "new.json": json.dumps(config).encode()}.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps([manifest]))
    with tarfile.open(tmp_path / "new.tar", "w") as archive:
        for name in ("manifest.json", "new.json", *manifest["Layers"]):
            archive.add(folder / name, name)
    return docker("load", "--quiet", "--input", str(tmp_path / "new.tar")).rpartition(" ")[2].strip()


@pytest.mark.second_engine
def test_the_same_bytes_on_an_engine_of_another_generation(tmp_path: Path, made: bytes) -> None:
    lines = subprocess.run([ENGINE, "env"], capture_output=True, text=True, check=True).stdout.splitlines()
    known = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    there = {"DOCKER_HOST": known["ENVLOCK_DEV_SECOND_HOST"], "DOCKER_CONFIG": known["ENVLOCK_DEV_SECOND_CONFIG"]}
    if subprocess.run(["docker", "version"], check=False, capture_output=True, env={**os.environ, **there}).returncode:
        pytest.skip("the second engine does not run (.ci/engine second up)")
    with subprocess.Popen(["docker", "save", BASE], stdout=subprocess.PIPE) as saving:
        subprocess.run(
            ["docker", "load"], stdin=saving.stdout, check=True, capture_output=True, env={**os.environ, **there}
        )
    engine = DockerEngine({**os.environ, **there})
    try:
        assert layer(engine, tmp_path, closure()) == made
    finally:
        engine.close()


def test_a_script_that_fails_says_why_and_leaves_nothing(engine: DockerEngine, tmp_path: Path) -> None:
    bad = make_deb("bad", scripts={"postinst": "#!/bin/sh\necho this is why >&2\nexit 3\n"})
    with pytest.raises(BuildFailed, match="exit code 100") as caught:
        layer(engine, tmp_path, [bad])
    assert "this is why" in caught.value.details
    assert leftovers(bad.sha256[:12]) == []


def test_missing_dependencies_are_apts_own_words(engine: DockerEngine, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed) as caught:
        layer(engine, tmp_path, [make_deb("alone", depends="nobody-has-this")])
    assert "nobody-has-this" in " ".join(caught.value.details)


def test_an_interruption_leaves_nothing(engine: DockerEngine, tmp_path: Path) -> None:
    def interrupted(_: str) -> None:
        assert len(leftovers(str(tmp_path))) == 1
        raise KeyboardInterrupt

    installing = engine.installed(
        BASE,
        {},
        python="python3",
        argv=["sh", "-c", "echo running; sleep 60"],
        check=["true"],
        folders=[],
        env={"MARK": str(tmp_path)},
        on_line=interrupted,
    )
    with pytest.raises(KeyboardInterrupt), installing as tar:
        tar.read()
    assert leftovers(str(tmp_path)) == []


KILLED = """
import os, sys
from pathlib import Path
from envlock.adapters.engine import DockerEngine
with DockerEngine(os.environ).installed({base!r}, {{}}, python="python3", argv=["sh", "-c", "echo running; sleep 90"],
        check=["true"], folders=[], env={{"MARK": {mark!r}}}, on_line=lambda line: print(line, flush=True)) as tar:
    tar.read()
"""


def test_the_container_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    mark = str(tmp_path)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED.format(base=BASE, mark=mark)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        assert len(leftovers(mark)) == 1
        process.kill()
    deadline = time.monotonic() + 20
    while leftovers(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers(mark) == []
