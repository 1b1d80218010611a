"""Builds that are killed, interrupted, short of disk or lied to: the right image, or an error that says so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envlock.build.ahead import STAGE_LABEL
from envlock.model.plan import FINGERPRINT_LABEL
from tests.engine.conftest import docker
from tests.support.blob_registry import blob_registry
from tests.support.debs import make_deb
from tests.support.handmade import Servers, read_layout, servers
from tests.support.layers import raw_wheel
from tests.support.packages import Package, wheel
from tests.support.robust import (
    LARGE,
    OwnBase,
    Site,
    breaking,
    copied,
    copy_base,
    flipped,
    locked,
    make_site,
    own_base,
    same,
    settled,
    small_disk,
)
from tests.support.workspace import REGISTRY, Answer

pytestmark = pytest.mark.engine

NAME = "envlock-test/robust-build"


@pytest.fixture(scope="module")
def world() -> Iterator[Servers]:
    with servers() as running:
        yield running


@pytest.fixture(scope="module")
def base() -> Iterator[OwnBase]:
    with own_base() as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, world: Servers, base: OwnBase) -> Iterator[Site]:
    """Give a project with system packages, for builds with the engine."""
    yield make_site(tmp_path, world, locked(world, base.base, f"{REGISTRY}/{NAME}", debs=True))
    base.forget_images()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, world: Servers, base: OwnBase) -> tuple[Site, Answer]:
    """Give a project without system packages that was composed without an engine, and what came out."""
    made = make_site(tmp_path_factory.mktemp("built"), world, locked(world, base.base, NAME))
    answer = made.layout()
    assert made.leftovers() == []
    return made, answer


@pytest.fixture
def warm(built: tuple[Site, Answer], tmp_path: Path) -> tuple[Site, Answer]:
    """Give a copy of that."""
    return built[0].twin(tmp_path / "twin"), built[1]


# --- killed and interrupted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["engine, push and output", "no engine"])
def test_killed_at_any_moment(site: Site, built: tuple[Site, Answer], base: OwnBase, way: str) -> None:
    forgotten: tuple[str, ...] = ()
    arguments = ["--push", "--output", str(site.image)]
    moments = (0.25, 0.5, 0.8)
    if way == "no engine":
        # The base, which is unpacked once, stays.
        site, forgotten, moments = built[0].twin(site.top.parent / "killed"), ("layers", "packed"), (0.3, 0.7)
        arguments = ["--engine", "none", "--output", str(site.image)]
    site.forget(*forgotten)
    began = time.monotonic()
    right = site.build(*arguments)
    took = time.monotonic() - began
    for moment in moments:
        site.forget(*forgotten)
        base.forget_images()
        with site.workspace.running("build", "--no-record", *arguments) as process:
            try:
                process.wait(moment * took)
            except subprocess.TimeoutExpired:
                process.kill()
        assert settled(base.containers) == []
        assert same(site.build(*arguments), right)
        assert site.leftovers() == []
        assert base.images() == ([right.json["image_id"]] if way != "no engine" else [])


@pytest.mark.parametrize(("which", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(site: Site, base: OwnBase, which: int, code: int) -> None:
    with site.workspace.running("build", "--no-record", "--push") as process:
        while not site.leftovers():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(which)
        _, said = process.communicate(timeout=60)
    # CPython ends by the signal itself where that came in the middle of an ``exec``; a shell sees the same code.
    assert process.returncode in {code, -which}
    assert "interrupted; nothing is left behind" in said
    assert "Traceback" not in said
    assert (site.leftovers(), base.containers(), base.images()) == ([], [], [])


def test_stages_of_killed_builds_go_with_the_next_build(site: Site, base: OwnBase) -> None:
    fingerprint = site.build().json["fingerprint"]
    base.forget_images()
    text = f"FROM {base.name}\nLABEL {FINGERPRINT_LABEL}={fingerprint} {STAGE_LABEL}={int(time.time())}\n"
    subprocess.run(["docker", "build", "-q", "-"], input=text, text=True, check=True, capture_output=True)
    assert len(base.images()) == 1
    image = site.build().json["image_id"]
    assert base.images() == [image]


def test_what_the_engine_made_of_killed_builds_goes_with_the_next_build(site: Site, base: OwnBase) -> None:
    site.build()
    (engine,) = (site.top / "state" / "unfinished").iterdir()
    base.forget_images()
    text = f"FROM {base.name}\nLABEL org.example.what=unfinished\n"
    subprocess.run(["docker", "build", "-q", "-"], input=text, text=True, check=True, capture_output=True)
    (engine / "killed.json").write_text(json.dumps(base.images()))
    image = site.build().json["image_id"]
    assert base.images() == [image]
    assert list(engine.iterdir()) == []


# --- damage on the disk -----------------------------------------------------------------------------------------------

Damage = Callable[[Site], None]


def tars(site: Site, shelf: str) -> list[Path]:
    return sorted((site.layers / shelf).glob("??/*.tar"))


def notes(site: Site) -> list[Path]:
    return sorted((site.layers / "notes").glob("??/*.json"))


def of_all(paths: Callable[[Site], list[Path]], do: Callable[[Path], Any], *, without: tuple[str, ...] = ()) -> Damage:
    def damage(site: Site) -> None:
        for name in without:
            shutil.rmtree(site.layers / name)
        found = paths(site)
        assert found
        for path in found:
            do(path)

    return damage


def layers(site: Site) -> list[Path]:
    return tars(site, "layers")


def parts(site: Site) -> list[Path]:
    return tars(site, "parts")


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def described(do: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda path: do(path.with_suffix(".json"))


def other_number(path: Path) -> None:
    """Change one digit: it is still JSON, and says something else."""
    content = path.read_bytes()
    path.write_bytes(content.translate(bytes.maketrans(b"12345678", b"23456781")))


def garbage(path: Path) -> None:
    path.write_bytes(b'{"diff_id": 1, "index": {}, "seen": [], "size": "x", "title": null}\n')


def stale_artifacts(site: Site) -> list[Path]:
    shutil.rmtree(site.layers)
    return sorted((site.cache / "artifacts" / "sha256").glob("??/*"))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(of_all(stale_artifacts, flipped), id="artifacts, same size and time"),
        pytest.param(of_all(layers, truncated), id="layers, truncated"),
        pytest.param(of_all(layers, flipped), id="layers, same size and time"),
        pytest.param(of_all(layers, Path.unlink), id="layers, json without tar"),
        pytest.param(of_all(layers, described(Path.unlink)), id="layers, tar without json"),
        pytest.param(of_all(layers, described(garbage)), id="layers, garbage"),
        pytest.param(of_all(layers, described(other_number)), id="layers, other numbers"),
        pytest.param(of_all(parts, flipped, without=("layers",)), id="parts, same size and time"),
        pytest.param(of_all(parts, described(garbage), without=("layers",)), id="parts, garbage"),
        pytest.param(of_all(parts, described(other_number), without=("layers",)), id="parts, other numbers"),
        pytest.param(of_all(notes, other_number), id="notes, other numbers"),
        pytest.param(of_all(notes, garbage), id="notes, garbage"),
    ],
)
def test_damage_is_noticed(warm: tuple[Site, Answer], damage: Damage) -> None:
    site, right = warm
    shutil.rmtree(site.image)
    site.forget("packed")
    damage(site)
    assert same(site.layout(), right)
    assert read_layout(site.image).digest == right.json["manifest_digest"]
    assert site.leftovers() == []


def test_a_damaged_system_layer_is_made_again(site: Site, base: OwnBase) -> None:
    right = site.build()
    base.forget_images()
    shutil.rmtree(site.layers / "notes")  # what was found in it is to be looked up again
    (system,) = (path for path in tars(site, "layers") if b"tiny-tool" in path.with_suffix(".json").read_bytes())
    flipped(system, at=600)
    again = site.build()
    assert again.json["image_id"] == right.json["image_id"]
    assert "making it again" in again.stderr


# --- malicious packages -----------------------------------------------------------------------------------------------


def evil(tmp_path: Path, *members: Any, **details: Any) -> Package:
    """A wheel with `members`: a name, and the contents or how many zeros."""
    path = raw_wheel(tmp_path, [(name, bytes(content)) for name, content in members], name="evil", **details)
    return Package(name="evil", version="1.0", filename=path.name, content=path.read_bytes(), metadata=b"")


METADATA = b"Metadata-Version: 2.1\nName: %s\nVersion: 1.0\n"


@pytest.mark.parametrize(
    ("members", "info", "said"),
    [
        ([("../../../etc/cron.d/x", b"x")], {}, "leads out"),
        ([("/etc/passwd", b"x")], {}, "absolute"),
        ([(".wh.small_a", b"")], {}, "removes other files"),
        ([("evil-1.0.data/scripts/python3", b"x")], {}, "virtual environment itself"),
        ([("small_e-1.0.dist-info/METADATA", METADATA % b"small-e")], {}, "2 .dist-info folders"),
        ([("evil-1.0.data/purelib/small_e-1.0.dist-info/METADATA", b"")], {}, "belongs to 'small_e-1.0.dist-info'"),
        ([], {"METADATA": METADATA % b"other"}, "inside it says that it is 'other'"),
        ([], {"entry_points.txt": b"[console_scripts]\npython\0x = os:abort\n"}, "makes no script"),
        ([("zeros", 300 << 20)], {}, "more than 100 times its own size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malicious_wheel_is_refused(  # noqa: PLR0917
    warm: tuple[Site, Answer], world: Servers, base: OwnBase, tmp_path: Path, members, info, said
) -> None:
    site, _ = warm
    made = evil(tmp_path, *members, info=info)
    world.index.packages = [package for package in world.index.packages if package.name != "evil"]
    lock = locked(world, base.base, NAME, wheels=[world.wheel(made)])
    other = make_site(tmp_path, world, lock)
    copied(site.cache / "bases", other.cache / "bases")
    answer = other.layout(code=2)
    assert "evil-1.0-py3-none-any.whl" in answer.stderr
    assert said in answer.stderr
    assert not other.image.exists()
    assert (other.leftovers(), tars(other, "layers")[1:]) == ([], [])  # the empty environment is there


def test_a_malicious_system_package_is_refused(tmp_path: Path, world: Servers, base: OwnBase) -> None:
    deb = make_deb("tiny-evil", files={"usr/share/.wh.doc": b"x"})
    site = make_site(tmp_path, world, world.lock(repository=NAME, base=base.base, debs=[world.deb(deb)]))
    answer = site.build(code=3)
    assert "tiny-evil" in answer.stderr
    assert "would hide files" in answer.stderr
    assert (site.leftovers(), settled(base.containers), base.images()) == ([], [], [])


def test_packages_that_share_files_are_as_pip_has_them(tmp_path: Path, world: Servers, base: OwnBase) -> None:
    """One package may replace another one's files, its scripts too: the first by name wins, whatever the layers."""
    one = wheel(
        "aaa", files={"shared.py": "WHO = 'aaa'\n", "caf\u00e9.py": "", "cafe\u0301.py": "", "A.py": "", "a.py": ""}
    )
    two = wheel("zzz", files={"shared.py": "WHO = 'zzz'\n", "zzz.pth": "import sys; sys.who = 1\n"})
    lock = world.lock(repository=NAME, base=base.base, wheels=[world.wheel(one), world.wheel(two)])
    site = make_site(tmp_path, world, lock)
    name = site.build().json["image"]
    program = (
        "import sys, shared, os; print(shared.WHO, sys.who, len(os.listdir(os.path.dirname(shared.__file__))) > 6)"
    )
    assert docker("run", "--rm", name, "python", "-c", program) == "aaa 1 True\n"
    base.forget_images()


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_cache_on_a_full_disk(site: Site, base: OwnBase) -> None:
    with small_disk(site.cache, 64 << 10) as resize:
        if resize is None:
            pytest.skip("this machine allows no mounts")
        failed = 0
        for room in (1, 2, 6, 9, 11):  # half a megabyte and more: fetching, layers, packing
            resize(room * LARGE // 4)
            answer = site.build("--output", str(site.image), code=None)
            if answer.code == 0:
                break
            failed += 1
            assert answer.code == 3, answer.stderr
            assert "No space left" in answer.stderr, answer.stderr
            assert "hint: " in answer.stderr
            assert (site.leftovers(), settled(base.containers)) == ([], [])
        assert failed >= 3
        resize(32 * LARGE)
        right = site.build("--output", str(site.image))
        assert site.leftovers() == []
        shutil.rmtree(site.image)
        site.forget("layers", "artifacts", "packed")
        base.forget_images()
        assert same(site.build("--output", str(site.image)), right)


@pytest.mark.parametrize("name", ["image", "image.tar"])
def test_an_output_on_a_full_disk(warm: tuple[Site, Answer], name: str) -> None:
    site, right = warm
    place = site.top / "small"
    with small_disk(place, 2 << 20) as resize:
        if resize is None:
            pytest.skip("this machine allows no mounts")
        answer = site.build("--engine", "none", "--output", str(place / name), code=3)
        assert f"cannot write {place / name}" in answer.stderr
        assert "No space left" in answer.stderr
        assert list(place.iterdir()) == []
        resize(512 << 20)
        assert same(site.build("--engine", "none", "--output", str(place / name)), right)


def test_a_cache_that_is_only_read(warm: tuple[Site, Answer]) -> None:
    site, _ = warm
    try:
        subprocess.run(["mount", "--bind", "-o", "ro", site.cache, site.cache], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine allows no mounts")
    try:
        answer = site.layout(code=3)
    finally:
        subprocess.run(["umount", "--lazy", site.cache], check=True)
    assert "Read-only file system" in answer.stderr
    assert "ENVLOCK_CACHE_DIR" in answer.stderr


# --- several at once --------------------------------------------------------------------------------------------------


def test_four_at_once_and_one_is_killed(
    warm: tuple[Site, Answer], base: OwnBase, world: Servers, tmp_path: Path
) -> None:
    site, _ = warm
    sites = [make_site(tmp_path / f"n{n}", world, locked(world, base.base, f"{NAME}-{n}")) for n in range(4)]
    alone = [one.layout() for one in sites[1:]]
    shared = tmp_path / "shared"
    copied(site.cache / "bases", shared / "bases")
    env = {"ENVLOCK_CACHE_DIR": str(shared)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "envlock", "build", "--no-record", "--engine", "none", "--output", str(one.image)],
            cwd=one.workspace.folder,
            env={**one.workspace.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for one in sites
    ]
    making = shared / "layers" / "making"
    while not (making.exists() and any(making.iterdir())):
        assert running[0].poll() is None
        time.sleep(0.01)
    running[0].kill()
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process is running[0] or process.returncode == 0, said
    for one, right in zip(sites[1:], alone, strict=True):
        assert read_layout(one.image).digest == right.json["manifest_digest"]
    assert not list(making.iterdir())


# --- registries -------------------------------------------------------------------------------------------------------


def nth(times: int, what: Callable[[Any], bool], answer: Callable[[Any], None]) -> Callable[[Any], bool]:
    """Answer the first so many requests of a kind in another way than usual."""
    left = [times]

    def fault(handler: Any) -> bool:
        if left[0] and what(handler):
            left[0] -= 1
            answer(handler)
            return True
        return False

    return fault


def half(handler: Any) -> None:
    """Hang up in the middle of a blob."""
    _, _, name = handler.path.partition("/v2/")
    repository, _, digest = name.partition("/blobs/")
    content = handler.world.blobs[repository, digest]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.drop()


def other_bytes(handler: Any) -> None:
    _, _, name = handler.path.partition("/v2/")
    repository, _, digest = name.partition("/blobs/")
    handler.answer(200, body=b"x" * len(handler.world.blobs[repository, digest]))


def of_blobs(method: str) -> Callable[[Any], bool]:
    return lambda handler: handler.command == method and "/blobs/" in handler.path


@pytest.mark.parametrize(
    ("method", "answer", "code"),
    [
        ("GET", half, 0),
        ("GET", lambda handler: handler.answer(429, {"Retry-After": "0", "Content-Length": "0"}), 0),
        ("GET", lambda handler: handler.answer(500), 0),
        ("GET", other_bytes, 3),
        ("PATCH", lambda handler: handler.drop(), 0),
        ("PATCH", lambda handler: handler.answer(429, {"Retry-After": "0", "Content-Length": "0"}), 0),
        ("PUT", lambda handler: handler.answer(503), 0),
    ],
    ids=["half a layer", "429", "500", "other bytes", "push drops", "push 429", "push 503"],
)
def test_a_registry_with_a_bad_moment(  # noqa: PLR0917
    warm: tuple[Site, Answer], world: Servers, base: OwnBase, tmp_path: Path, method: str, answer, code: int
) -> None:
    site, _ = warm
    with blob_registry() as registry:
        away = copy_base(registry, base.base, "base")
        other = make_site(tmp_path, world, locked(world, away, f"{registry.host}/out"))
        copied(site.cache, other.cache)
        shutil.rmtree(other.cache / "artifacts")
        shutil.rmtree(other.cache / "bases" / "configs")
        registry.fault = nth(2, of_blobs(method), answer)
        done = other.layout("--push", code=code)
        assert other.leftovers() == []
        if code:
            assert "expected" in done.stderr or "not what its digest says" in done.stderr or "not the" in done.stderr
            registry.fault = lambda _: False
            done = other.layout("--push")
        tag = done.json["image"].rpartition(":")[2]
        assert ("out", tag) in registry.manifests
        assert read_layout(other.image).digest == done.json["manifest_digest"]


# --- the engine's line ------------------------------------------------------------------------------------------------


def test_an_engine_that_goes_away_while_it_loads(site: Site, base: OwnBase) -> None:
    with breaking() as line:
        answer = site.build(code=3, env={"DOCKER_HOST": line.url})
        assert line.breaks == 0
    assert "the connection to the engine" in answer.stderr
    assert "hint:" in answer.stderr
    assert settled(base.containers) == []
    assert site.leftovers() == []
    image = site.build().json["image_id"]
    assert base.images() == [image]


# --- odd surroundings -------------------------------------------------------------------------------------------------


def test_odd_surroundings(warm: tuple[Site, Answer]) -> None:
    """No HOME, a clock that went back, an old cache full of other things, a name as long as names can be."""
    site, right = warm
    for path in ("layers/layers/ab/zz.json", "layers/making/x", "packed/x", "artifacts/sha256/junk", "bases/configs/x"):
        (site.cache / path).parent.mkdir(parents=True, exist_ok=True)
        (site.cache / path).write_text("{old")
    for path in site.cache.rglob("*"):
        os.utime(path, (4_000_000_000,) * 2, follow_symlinks=False)  # later than now
    long = site.top / "out" / ("x" * 250)
    env = {"HOME": ""}
    assert same(site.build("--engine", "none", "--output", str(long), env=env), right)
    assert read_layout(long).digest == right.json["manifest_digest"]
    shutil.rmtree(site.cache / "layers" / "layers" / "ab", ignore_errors=True)
    shutil.rmtree(site.layers)
    assert same(site.layout(), right)
