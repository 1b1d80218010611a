"""``envlock verify`` as users have it: on images that ``envlock build`` made, sound or changed by somebody."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envlock.formats.lock_json import fingerprint
from envlock.layers.store import LayerStore
from envlock.model.image import AUTHOR
from envlock.model.lock import Lock
from envlock.model.spec import ProjectFiles, Seeds
from tests.engine.conftest import docker, remove_images
from tests.support.debs import make_deb
from tests.support.handmade import make_project, servers
from tests.support.packages import wheel
from tests.support.workspace import Answer, Workspace, make_workspace

pytestmark = pytest.mark.engine

SITE = "/opt/venv/lib/python3.11/site-packages"


@dataclass(frozen=True)
class Bench:
    """A project whose image is built, and somebody who has nothing of it but the engine and the packages."""

    work: Workspace
    elsewhere: Workspace
    lock: Lock

    @property
    def repository(self) -> str:
        return self.lock.image.repository

    @property
    def image(self) -> str:
        return f"{self.repository}:env-{fingerprint(self.lock)[:12]}"

    def changed(self, tag: str, script: str, **settings: str) -> str:
        """Return an image in which somebody changed files by hand; labels and settings are the image's."""
        name = f"{self.repository}-changed:{tag}"
        container = docker("create", "--user", "0", "--network", "none", self.image, "sh", "-euc", script).strip()
        try:
            docker("start", "--attach", container)
            command = json.loads(docker("inspect", "--format", "{{json .Config.Cmd}}", self.image)) or []
            user = ["--change", f"USER {self.lock.image.uid}:{self.lock.image.uid}"]
            user += ["--change", f"CMD {json.dumps(command)}"]  # else it were the script
            changes = [part for name, value in settings.items() for part in ("--change", f"{name} {value}")]
            docker("commit", "--author", AUTHOR, *user, *changes, container, name)
        finally:
            docker("rm", "--force", container)
        return name


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("verify")
    repository = f"envlock-test/verify-{os.urandom(4).hex()}"
    with servers() as here:
        lock = here.lock(
            repository=repository,
            wheels=[
                here.wheel(wheel("mod", files={"mod.py": "X = {1, 2}\n", "more.py": "Y = 1\n"})),
                here.wheel(wheel("tool", entry_points={"console_scripts": {"tool": "tool:main"}})),
            ],
            debs=[here.deb(make_deb("tiny-tool", files={"/usr/share/tiny-tool/words": b"a\n"}))],
            project=ProjectFiles(include=("/train.py", "/conf/")),
        )
        work = make_workspace(root / "one", index_url=here.index.url)
        make_project(work.folder, lock, {"train.py": "print('trains')\n", "conf/a.txt": "a\n"})
        work.envlock("build", "--no-record")
        yield Bench(work, make_workspace(root / "two", index_url=here.index.url), lock)
    remove_images(repository)
    remove_images(f"{repository}-changed")


def found_by(answer: Answer) -> dict[str, tuple[str, str | None]]:
    return {it["where"]: (it["message"], it["package"]) for it in answer.json["findings"]}


def test_a_sound_image_by_each_of_its_names(bench: Bench) -> None:
    said = bench.work.envlock("verify", bench.image)
    assert said.stdout.startswith(f"{bench.image}: ")
    assert said.stdout.endswith("files, all as the lock says\n")
    said = bench.work.envlock("verify", "envlock.lock", "--json").json
    assert (said["ref"], said["findings"], said["fingerprint"]) == ("envlock.lock", [], fingerprint(bench.lock))
    assert said["files"] > 1000
    assert said["image_id"] == docker("image", "inspect", "--format", "{{.Id}}", bench.image).strip()


def test_from_another_folder_with_nothing_at_hand(bench: Bench) -> None:
    """Another machine, as far as envlock can see: no project, no lock, empty caches."""
    assert bench.elsewhere.envlock("verify", bench.image, "--json").json["findings"] == []
    # a folder that has another project, with the same lock
    other = Workspace(bench.elsewhere.folder.parent / "other", bench.elsewhere.env)
    make_project(other.folder, bench.lock, {"train.py": "print('something else')\n", "conf/b.txt": "b\n"})
    assert other.envlock("verify", bench.image, "--lock", "envlock.lock", "--json").json["findings"] == []


def test_changed_added_and_removed_files_are_named_with_their_package(bench: Bench) -> None:
    compiled = f"{SITE}/__pycache__/tool.cpython-311.pyc"
    image = bench.changed(
        "files",
        f"echo 'X = 3' > {SITE}/mod.py; rm {SITE}/more.py; echo import os > {SITE}/sneaked.pth; "
        f"printf x >> {compiled}; chmod 4755 /usr/bin/dpkg; rm /usr/share/tiny-tool/words; "
        "chown 1000 /opt/venv/bin/tool; "
        "echo x > /workspace/new.txt; touch -d 2001-01-01 /etc/passwd",
    )
    answer = bench.work.envlock("verify", image, "--json", code=1)
    found = found_by(answer)
    message, package = found.pop(compiled)
    assert (message.split(" (")[0], package) == ("has other content", "tool 1.0")
    assert found == {
        f"{SITE}/mod.py": ("has other content (6 bytes for 11)", "mod 1.0"),
        f"{SITE}/more.py": ("is missing", "mod 1.0"),
        f"{SITE}/sneaked.pth": ("was added", None),
        "/opt/venv/bin/tool": ("belongs to 1000:0, and not to 0:0", "tool 1.0"),
        "/usr/bin/dpkg": ("has mode 4755 for 0755", dpkg_package("dpkg")),
        "/usr/share/tiny-tool/words": ("is missing", "tiny-tool 1.0-1"),
        "/workspace/new.txt": ("was added", None),
    }
    # who does not have the project cannot know which of its files it is
    text = bench.elsewhere.envlock("verify", image, code=1).stdout
    assert text.startswith(f"{image}: 8 findings in ")
    assert "\nmod 1.0:\n" in text
    assert "\n  /workspace holds other files than the project that the image was built for" in text
    assert "/workspace/" not in text


def test_changed_settings_are_seen(bench: Bench) -> None:
    """No file is another one, and yet containers of the image would do something else."""
    image = bench.changed(
        "settings", "true", LABEL="envlock.fingerprint=0", ENV="PYTHONPATH=/tmp", USER="0:0", CMD='["evil"]'
    )
    assert found_by(bench.elsewhere.envlock("verify", image, "--json", code=1)) == {
        "label envlock.fingerprint": (f"is 0, and the lock's is {fingerprint(bench.lock)}", None),
        "variable PYTHONPATH": ("was added", None),
        "user": ("is '0:0', and has to be '1000:1000'", None),
        "command": ("is ['evil'], and has to be ['python3']", None),
    }


def test_made_again_it_has_the_same_digests(bench: Bench) -> None:
    """With the project at hand down to the configuration; without it, all layers but the project's."""
    for place in (bench.work, bench.elsewhere):
        assert place.envlock("verify", bench.image, "--rebuild", "--json").json["findings"] == []


def test_a_damaged_layer_in_the_store_is_nobodys_fault_but_the_stores(bench: Bench) -> None:
    store = LayerStore(Path(bench.work.env["HOME"]) / ".cache" / "envlock" / "layers")
    hurt = 0
    for layer, _ in list(store.layers.kept()):
        path = store.layers.path(layer.key)
        content = path.read_bytes()
        middle = content.find(b"X = {1, 2}") if b"X = {1, 2}" in content else len(content) // 2
        path.chmod(0o644)
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        hurt += 1
    assert hurt > 3
    assert bench.work.envlock("verify", bench.image, "--json").json["findings"] == []
    built = bench.work.envlock("build", "--no-record", "--json").json
    assert built["image_id"] == docker("image", "inspect", "--format", "{{.Id}}", bench.image).strip()


def test_what_cannot_be_verified(bench: Bench) -> None:
    lock = replace(bench.lock, seeds=Seeds(seed=7))
    plain = Workspace(bench.work.folder.parent / "plain", bench.work.env)
    make_project(plain.folder, lock, {"train.py": ""})
    image = plain.envlock("build", "--no-record", "--plain", "--json").json["image"]
    said = plain.envlock("verify", image, code=2)
    assert "built by an engine's own builder" in said.stderr
    assert "hint: only images that 'envlock build' composes can be verified" in said.stderr
    assert "carries no lock" in bench.work.envlock("verify", bench.lock.base.pinned, code=2).stderr
    assert "has no image" in bench.work.envlock("verify", f"{bench.repository}:none", code=2).stderr
    assert bench.work.envlock("verify", "live", code=2).stderr.startswith("error: live is no image")
    nowhere = bench.work.envlock("verify", bench.image, code=3, env={"DOCKER_HOST": "unix:///nowhere.sock"})
    assert nowhere.stderr.startswith("error: ")


def dpkg_package(name: str) -> str:
    argv = ["docker", "run", "--rm", "--network", "none", "envlock/base:py3.11"]
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}", name]
    return subprocess.run([*argv, *query], check=True, capture_output=True, text=True).stdout
