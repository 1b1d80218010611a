"""One lock and one state of the project are one image, to the byte: whoever builds it, wherever, with any engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.adapters.registry import HttpRegistry
from envlock.build import Wishes, build
from envlock.cli.planning import planned
from envlock.cli.world import World
from envlock.compose.system import SystemPackages
from envlock.layers.store import LayerStore
from envlock.model.lock import Lock
from envlock.model.spec import ImageOptions, ProjectFiles
from envlock.ports import Loaded
from tests.engine.conftest import remove_images
from tests.support.building import workshop
from tests.support.debs import make_deb
from tests.support.handmade import (
    PLATFORM,
    Servers,
    Written,
    forget_pushed,
    git,
    make_project,
    read_layout,
    servers,
)
from tests.support.loading import REGISTRY, other
from tests.support.packages import wheel
from tests.support.progress import Remembering
from tests.support.workspace import Workspace, make_workspace

pytestmark = pytest.mark.engine

# the other generations and kinds of image store that run here: .ci/test starts them (.ci/engine second up, third up)
OTHERS = os.environ.get("ENVLOCK_TEST_ENGINES", "").split()

POSTINST = """#!/bin/sh
set -e
echo tool:x:990:990::/nonexistent:/usr/sbin/nologin >> /etc/passwd
mkdir -p /var/lib/tiny-tool
env LC_ALL=C sort -r /usr/share/tiny-tool/words > /var/lib/tiny-tool/sorted
chown 990:990 /var/lib/tiny-tool/sorted
chmod 640 /var/lib/tiny-tool/sorted
ln -s sorted /var/lib/tiny-tool/link
date > /var/log/tiny-tool.log
python3 -m compileall -q /usr/share/tiny-tool
"""
FILES = {
    "train.py": "print('trains')\n",
    "run.sh": "#!/bin/sh\nexec python train.py\n",
    "conf/żółw.txt": "x\n",
    "conf/B.txt": "b\n",
    "conf/a/deep.txt": "d\n",
}


def wheels() -> list:
    return [
        wheel("tiny-a", requires=["tiny-b"], entry_points={"console_scripts": {"tiny-a": "tiny_a:main"}}),
        wheel(
            "tiny-b",
            "2.0",
            files={
                "tiny_b/__init__.py": "X = {'a', 'b', 'c', 1, 2.5, None}\ndef f():\n    return {*'xyz'} & X\n",
                "tiny_b/żółw.py": "Z = 'ż'\n",
                "tiny_b/broken.py": "def\n",
                "tiny_b-2.0.data/data/etc/tiny/settings.py": "S = 1\n",
                "tiny_b-2.0.data/scripts/tool": "#!python\nprint('tool')\n",
                "tiny_b-2.0.data/headers/b.h": "",
                "tiny_b.pth": "import sys\n",
            },
        ),
        wheel("ns-one", files={"ns/one.py": "ONE = 1\n"}),
        wheel("ns-two", files={"ns/two.py": "TWO = frozenset('two')\n"}),
    ]


@dataclass
class Site:
    """What every builder has the same: the lock, the servers that it names, and the project's files."""

    servers: Servers
    lock: Lock
    root: Path
    made: list[Workspace] = field(default_factory=list)

    @property
    def repository(self) -> str:
        return self.lock.image.repository

    def builder(self, name: str, *, lock: Lock | None = None, backwards: bool = False, **env: str) -> Workspace:
        """Return a machine that has never built anything, with a copy of the project."""
        folder = self.root / name
        work = make_workspace(folder, index_url=self.servers.index.url, **env)
        files = dict(reversed(FILES.items())) if backwards else FILES
        make_project(work.folder, lock or self.lock, files, executable=["run.sh"])
        self.made.append(work)
        return work

    def built(self, work: Workspace, *options: str) -> Written:
        """Build there, and return what was written."""
        target = work.folder.parent / "out"
        said = work.envlock("build", "--no-record", "--json", "--output", str(target), *options).json
        found = read_layout(target)
        assert (said["image_id"], said["manifest_digest"]) == (found.image_id, found.digest)
        return found


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # pytest's own folders are closed to other users
    root = Path(tempfile.mkdtemp(prefix="envlock-same-"))
    root.chmod(0o755)
    repository = f"{REGISTRY}/envlock-test/same-{os.urandom(6).hex()}"
    with servers() as here:
        lock = here.lock(
            repository=repository,
            wheels=[here.wheel(one, requested=one.name != "tiny-b") for one in wheels()],
            debs=[
                here.deb(
                    make_deb(
                        "tiny-tool",
                        "1:2.0-1",
                        depends="tiny-lib",
                        files={
                            "/usr/share/tiny-tool/words": b"a\nc\nb\n",
                            "/usr/share/tiny-tool/mod.py": b"M = {1, 2}\n",
                        },
                        scripts={"postinst": POSTINST},
                    )
                ),
                here.deb(make_deb("tiny-lib", "0.5")),
            ],
            image=ImageOptions(repository=repository, labels={"org.example.b": "2", "org.example.a": "ż"}),
            project=ProjectFiles(include=("/train.py", "/run.sh", "/conf/")),
        )
        yield Site(here, lock, root)
    remove_images(repository)
    forget_pushed(repository)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def first(site: Site) -> Workspace:
    return site.builder("first")


@pytest.fixture(scope="module")
def expected(site: Site, first: Workspace) -> Written:
    return site.built(first)


def test_again_from_nothing(site: Site, expected: Written) -> None:
    assert expected.differences(site.built(site.builder("again"))) == []


def test_another_user_in_another_place_with_other_settings(site: Site, expected: Written) -> None:
    locale = turkish(site.root / "locale")
    temporary = site.root / "tmp"
    temporary.mkdir()
    work = site.builder(
        "an other/ place",
        TZ="Pacific/Chatham",
        TMPDIR=str(temporary),
        PYTHONHASHSEED="7",
        LANG="tr_TR.UTF-8",
        PATH=os.environ["PATH"],
        **locale,
    )
    nobody = as_nobody(work, temporary)
    assert expected.differences(site.built(nobody)) == []
    assert (work.folder.parent / "out").stat().st_uid != os.getuid()


def test_files_in_another_order_one_core_and_no_locale(site: Site, expected: Written) -> None:
    work = site.builder("b", backwards=True, LC_ALL="C", TZ="UTC", PYTHONHASHSEED="1", PYTHONDONTWRITEBYTECODE="1")
    for number, path in enumerate(sorted(work.folder.rglob("*"))):
        os.utime(path, (number, number))
        path.chmod(path.stat().st_mode | 0o070)
    assert expected.differences(site.built(replace(work, prefix=("taskset", "--cpu-list", "0")))) == []


@pytest.mark.parametrize("name", OTHERS)
def test_another_engine(site: Site, expected: Written, name: str) -> None:
    host = other(name)
    try:
        assert expected.differences(site.built(site.builder(name, DOCKER_HOST=host))) == []
        engine = DockerEngine({"DOCKER_HOST": host})
        found = engine.find(f"{site.repository}:env-{label(expected)}")
        assert found is not None
        assert found.diff_ids == expected.diff_ids
        # an engine that keeps blobs calls an image by the manifest that it was given, of layers as they are
        assert found.id == expected.image_id or engine.info().per_blob
    finally:
        name = f"{site.repository}:env-{label(expected)}"
        subprocess.run(["docker", "--host", host, "rmi", "--force", name], check=False, capture_output=True)


def test_no_engine_but_the_layer_of_system_packages(site: Site, expected: Written, first: Workspace) -> None:
    work = site.builder("none", DOCKER_HOST="unix:///nowhere.sock")
    key = SystemPackages(base=site.lock.base, debs=site.lock.debs).key
    carry_over(key, cache_of(first), cache_of(work))
    assert expected.differences(site.built(work, "--engine", "none")) == []


def test_no_engine_and_no_system_packages(site: Site, expected: Written) -> None:
    lock = replace(site.lock, debs=(), apt_sources=())
    with_engine = site.built(site.builder("light", lock=lock))
    without = site.builder("light none", lock=lock, DOCKER_HOST="unix:///nowhere.sock")
    assert with_engine.differences(site.built(without, "--engine", "none")) == []
    # what does not lie above the system packages is the same for all
    assert len(set(with_engine.diff_ids) & set(expected.diff_ids)) >= len(with_engine.diff_ids) - 2


def test_pushed_it_has_the_same_digest(site: Site, expected: Written, first: Workspace) -> None:
    """From the engine's machine, from the cache, and from a machine with no engine at all."""
    reference = f"{site.repository}:env-{label(expected)}"
    for work, options in (
        (first, ["--tag", "one"]),
        (site.builder("pusher", DOCKER_HOST="unix:///nowhere.sock"), ["--tag", "two", "--engine", "none"]),
    ):
        carry_over(SystemPackages(base=site.lock.base, debs=site.lock.debs).key, cache_of(first), cache_of(work))
        said = work.envlock("build", "--no-record", "--json", "--push", *options).json
        assert (said["manifest_digest"], said["image_id"]) == (expected.digest, expected.image_id)
        for name in (reference, f"{site.repository}:{options[1]}"):
            found = HttpRegistry(os.environ).manifest(name, platform=PLATFORM)
            assert (found.digest, found.config.digest) == (expected.digest, expected.image_id)


def test_nothing_of_the_machine_is_in_the_configuration(site: Site, expected: Written, first: Workspace) -> None:
    config = expected.config
    ours = config["history"][-(len(expected.diff_ids) - len(site.lock.base.diff_ids)) :]
    assert {config["created"], *(entry["created"] for entry in ours)} == {"2023-11-14T22:13:20Z"}
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.created"] == config["created"]
    assert labels["org.opencontainers.image.revision"] == git(first.folder, "rev-parse", "HEAD").strip()
    assert labels["org.example.a"] == "ż"
    titles = [entry["created_by"] for entry in ours]
    assert titles[0] == "envlock: system packages: tiny-lib, tiny-tool"
    assert titles[-1] == "envlock: 5 files of the project in /workspace"
    text = json.dumps(config)
    for word in (str(site.root), "nobody", os.uname().nodename, str(site.servers.index.port)):
        assert word not in text, word


def test_a_new_commit_of_the_same_files_sends_nothing_but_the_configuration(
    site: Site, expected: Written, first: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = site.builder("committed", ENVLOCK_CACHE_DIR=str(cache_of(first)))
    git(work.folder, "commit", "--quiet", "--allow-empty", "--message", "nothing", seconds=1_800_000_000)
    monkeypatch.chdir(work.folder)
    it = planned(Path("envlock.yaml"), Path("envlock.lock"), world=World(work.env, work.folder))
    engine = Watched(os.environ)
    shop = replace(workshop(engine, tmp_path, Remembering()), store=LayerStore(cache_of(first) / "layers"))

    def nothing_is_fetched() -> list:
        pytest.fail("something was fetched")

    image = build(
        it.plan, workshop=shop, wanted=nothing_is_fetched, project=it.folder, wishes=Wishes(layout=tmp_path / "out")
    )
    found = read_layout(tmp_path / "out")
    assert found.image_id == image.image_id != expected.image_id
    assert (found.diff_ids, found.layers) == (expected.diff_ids, expected.layers)
    assert found.config["created"] == "2027-01-15T08:00:00Z"
    assert [loaded.layers for loaded in engine.loaded] == [0]
    assert 0 < engine.loaded[0].sent < 64 << 10
    assert engine.find(image.reference).diff_ids == expected.diff_ids
    engine.close()


class Watched(DockerEngine):
    """An engine that remembers what it was sent."""

    def __init__(self, environ) -> None:
        super().__init__(environ)
        self.loaded: list[Loaded] = []

    def load(self, *arguments, **more) -> Loaded:
        self.loaded.append(super().load(*arguments, **more))
        return self.loaded[-1]


def label(image: Written) -> str:
    return str(image.config["config"]["Labels"]["envlock.fingerprint"])[:12]


def cache_of(work: Workspace) -> Path:
    return Path(work.env["HOME"]) / ".cache" / "envlock"


def carry_over(key: str, source: Path, target: Path) -> None:
    """Put a layer of one machine into the store of another, as sharing layers does."""
    if source == target:
        return
    here, there = LayerStore(source / "layers"), LayerStore(target / "layers")
    layer = here.find(key)
    assert layer is not None
    with here.open(layer) as tar, there.layers.making(key) as making:
        shutil.copyfileobj(tar, making.file)
        making.keep(diff_id=layer.diff_id, size=layer.size, title=layer.title)


def turkish(folder: Path) -> dict[str, str]:
    """Return settings of a locale that is not UTF-8, and in which i is not the small I."""
    if not Path("/usr/share/i18n/locales/tr_TR").exists():  # Debian's package locales
        return {"LC_ALL": "tr_TR"}
    folder.mkdir()
    made = ["localedef", "--inputfile", "tr_TR", "--charmap", "ISO-8859-9", str(folder / "tr_TR.ISO-8859-9")]
    subprocess.run(made, check=True, capture_output=True)
    return {"LC_ALL": "tr_TR.ISO-8859-9", "LOCPATH": str(folder)}


def as_nobody(work: Workspace, *more: Path) -> Workspace:
    """Give a machine to another user, who may use the engine, and is careful with what others may read."""
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    socket = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    who = ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", str(socket.stat().st_gid)]
    careful = ["sh", "-c", 'umask 077 && exec "$@"', "sh"]
    for reading in ([], ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]):
        # where the checkout or Python itself is in a folder that only root may enter
        prefix = (*who, *reading, *careful)
        tried = subprocess.run([*prefix, sys.executable, "-c", "import envlock.cli.app"], check=False, env=work.env)
        if tried.returncode == 0:
            break
    else:
        pytest.skip("another user cannot read this checkout")
    for folder in (work.folder.parent, *more):
        subprocess.run(["chown", "-R", "65534:65534", str(folder)], check=True)
    return replace(work, prefix=prefix)
