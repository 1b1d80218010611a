"""Composing: the configuration, the small layers, and that nothing of this machine is in them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from envlock.compose import compose, small_layers
from envlock.errors import InputError, LockError, StorageError
from envlock.formats import oci
from envlock.formats.base_files import BaseFiles, Found, accounts, read_layers
from envlock.formats.layer_tar import EPOCH
from envlock.formats.small_tar import Entry
from envlock.model.plan import Project, ProjectFile
from envlock.model.spec import ImageOptions, ProjectFiles
from tests.support.composing import Layers, base_in_registry, config_of, image_of, lock_of, plan_of, tar_of

FILES = BaseFiles(
    entries={
        "etc": Found(),
        "home": Found(),
        "tmp": Found(mode=0o1777),
        "lib": Found(target="usr/lib"),
        "usr": Found(),
        "usr/lib": Found(),
    },
    passwd=b"root:x:0:0:root:/root:/bin/sh\n",
    group=b"root:x:0:\n",
)


def members(tar: bytes) -> dict[str, tuple[str, int, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {entry.name: (oct(entry.mode), entry.uid, entry.gid, entry.mtime) for entry in archive}


def config(image) -> dict:
    return json.loads(image.config)


def test_the_configuration_is_what_the_dockerfile_would_give() -> None:
    store = Layers()
    base = base_in_registry()
    base = replace(
        base,
        config=config_of(
            [base.diff_id],
            Cmd=["bash"],
            Labels={"maintainer": "them"},
            User="nobody",
            StopSignal="SIGINT",
            Hostname="abc",
            Image="sha256:old",
        ),
    )
    image = image_of(base, [store.noise("one"), store.noise("two")], Project(revision="c" * 40, epoch=86400))
    found = config(image)
    assert image.config == oci.canonical(found)
    assert image.image_id == oci.digest_of(image.config)
    assert found["created"] == "1970-01-02T00:00:00Z"
    assert found["rootfs"]["diff_ids"] == list(image.diff_ids)
    assert [entry["created_by"] for entry in found["history"]] == ["ADD rootfs", "envlock: one", "envlock: two"]
    assert found["history"][-1]["created"] == "1970-01-02T00:00:00Z"
    assert "container" not in found
    run = found["config"]
    assert sorted(run) == ["Cmd", "Env", "Labels", "StopSignal", "User", "WorkingDir"]
    assert run["Env"] == [
        "PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG=C.UTF-8",
        "CUBLAS_WORKSPACE_CONFIG=:4096:8",
        "CUDNN_DETERMINISTIC=true",
        "DATA_SEED=7",
        "PYTHONHASHSEED=42",
        "SEED=42",
        "TOKENIZERS_PARALLELISM=false",
        "VIRTUAL_ENV=/opt/venv",
    ]
    assert run["User"] == "1000:1000"
    assert run["WorkingDir"] == "/workspace"
    assert run["Labels"]["maintainer"] == "them"
    assert run["Labels"]["org.opencontainers.image.revision"] == "c" * 40
    assert image.base_layers[0].media_type == oci.LAYER_GZIP


def test_an_entrypoint_ends_the_command_that_was_meant_for_another() -> None:
    base = base_in_registry()
    base = replace(base, config=config_of([base.diff_id], Cmd=["bash"], Entrypoint=["tini"]))
    assert config(image_of(base, []))["config"]["Entrypoint"] == ["tini"]
    plan = plan_of(lock_of(base, image=ImageOptions(repository="demo", entrypoint=("python", "train.py"))))
    run = config(compose(plan, [], base_config=base.config))["config"]
    assert run["Entrypoint"] == ["python", "train.py"]
    assert "Cmd" not in run


def test_a_history_that_does_not_fit_its_layers_is_not_taken_over() -> None:
    base = base_in_registry()
    data = json.loads(base.config)
    data["history"] = [{"created_by": "one"}, {"created_by": "two"}, {"created_by": "ENV", "empty_layer": True}]
    found = config(image_of(replace(base, config=json.dumps(data).encode()), []))["history"]
    assert len(found) == 1
    data["history"] = [{"created_by": "one"}, {"created_by": "ENV", "empty_layer": True}]
    assert config(image_of(replace(base, config=json.dumps(data).encode()), []))["history"] == data["history"]


def test_only_the_base_of_the_lock_is_taken() -> None:
    base = base_in_registry()
    plan = plan_of(lock_of(base))
    with pytest.raises(InputError, match="another than the lock's"):
        compose(plan, [], base_config=base.config + b" ")
    other = plan_of(replace(lock_of(base), base=replace(lock_of(base).base, diff_ids=("sha256:" + "0" * 64,))))
    with pytest.raises(InputError, match="other layers"):
        compose(other, [], base_config=base.config)
    builder = replace(base, config=config_of([base.diff_id], OnBuild=["RUN true"]))
    with pytest.raises(InputError, match="ONBUILD") as caught:
        image_of(builder, [])
    assert "--plain" in caught.value.hint


def test_only_a_label_changes_only_the_configuration() -> None:
    base, store = base_in_registry(), Layers()
    layers = [store.noise("one")]
    one = image_of(base, layers, Project(revision="a" * 40))
    two = image_of(base, layers, Project(revision="b" * 40))
    assert one.image_id != two.image_id
    assert one.diff_ids == two.diff_ids


# --- the user ---------------------------------------------------------------------------------------------------------


def user_of(files: BaseFiles, **image) -> bytes:
    plan = plan_of(lock_of(base_in_registry(), image=ImageOptions(repository="demo", **image)))
    (made,) = small_layers(plan, project=None, files=files)
    return b"".join(made.blocks())


def without_own(tar: bytes) -> dict[str, object]:
    return {name: found for name, found in members(tar).items() if not name.startswith("opt")}


def content(tar: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.extractfile(name).read()


def test_a_user_with_home_and_workdir() -> None:
    tar = user_of(FILES)
    assert without_own(tar) == {
        "etc": ("0o755", 0, 0, EPOCH),
        "etc/group": ("0o644", 0, 0, EPOCH),
        "etc/passwd": ("0o644", 0, 0, EPOCH),
        "home": ("0o755", 0, 0, EPOCH),
        "home/envlock": ("0o755", 1000, 1000, EPOCH),
        "workspace": ("0o755", 1000, 1000, EPOCH),
    }
    assert content(tar, "etc/passwd") == FILES.passwd + b"envlock:x:1000:1000::/home/envlock:/bin/sh\n"
    assert content(tar, "etc/group") == FILES.group + b"envlock:x:1000:\n"


def test_a_workdir_below_a_link_and_in_a_folder_for_everybody() -> None:
    # A folder in place of /lib would hide the whole of it; a plain /tmp would lock everybody out.
    assert {"usr", "usr/lib", "usr/lib/work"} <= set(members(user_of(FILES, workdir="/lib/work")))
    assert "lib" not in members(user_of(FILES, workdir="/lib/work"))
    assert members(user_of(FILES, workdir="/tmp/work"))["tmp"] == ("0o1777", 0, 0, EPOCH)
    circle = replace(FILES, entries={"a": Found(target="/b"), "b": Found(target="a")})
    with pytest.raises(InputError, match="circle"):
        user_of(circle, workdir="/a/x")


def test_two_files_that_a_link_of_the_base_makes_one() -> None:
    one, other = Entry(path="lib/a.py"), Entry(path="usr/lib/a.py")
    with pytest.raises(InputError, match=r"would both be written to /usr/lib/a\.py"):
        FILES.with_folders([one, other])
    folders = FILES.with_folders([Entry(path="lib/a", folder=True), Entry(path="usr/lib/a", folder=True)])
    assert [entry.path for entry in folders] == ["usr", "usr/lib", "usr/lib/a"]


def test_root_needs_no_user() -> None:
    assert set(without_own(user_of(FILES, uid=0, user="root"))) == {"workspace"}
    assert without_own(user_of(FILES, uid=0, user="root", workdir="/tmp")) == {}


def test_accounts_that_are_there_taken_over_or_in_the_way() -> None:
    passwd, group = b"root:x:0:0::/root:/bin/sh\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash", b"ubuntu:x:1000:\n"
    assert accounts(passwd, group, user="ubuntu", uid=1000) is None
    assert accounts(passwd, group, user="me", uid=1000) == (
        b"root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n",
        group,
    )
    assert accounts(b"", b"", user="me", uid=7) == (b"me:x:7:7::/home/me:/bin/sh\n", b"me:x:7:\n")
    with pytest.raises(LockError, match="another number"):
        accounts(passwd, group, user="ubuntu", uid=1001)


def test_what_a_base_has_is_read_from_its_layers() -> None:
    def layer(*entries: tuple[str, bytes, str | bytes]) -> io.BytesIO:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, kind, more in entries:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = kind, 0o1777 if name == "./tmp" else 0o755
                if kind == tarfile.SYMTYPE:
                    entry.linkname = str(more)
                content = more if isinstance(more, bytes) else b""
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        buffer.seek(0)
        return buffer

    d, f, s = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE
    files = read_layers(
        [
            layer(
                ("./tmp", d, ""),
                ("etc/passwd", f, b"one\n"),
                ("lib", s, "usr/lib"),
                ("usr/lib", d, ""),
                ("old/deep", d, ""),
                ("gone", d, ""),
                ("gone/x", d, ""),
            ),
            layer(
                ("etc/passwd", f, b"two\n"),
                ("etc/group", f, b"g\n"),
                (".wh.old", f, b""),
                ("gone", d, ""),
                ("gone/.wh..wh..opq", f, b""),
            ),
        ]
    )
    assert (files.passwd, files.group) == (b"two\n", b"g\n")
    assert files.find("tmp").mode == 0o1777
    assert files.find("lib") == files.find("usr/lib")
    assert files.real("lib/python3/../x") == "usr/lib/x"
    assert (files.find("old/deep"), files.find("gone/x")) == (None, None)
    assert files.find("gone") is not None


# --- the project and our own files ------------------------------------------------------------------------------------


def project_in(folder: Path) -> Project:
    contents = {"train.py": b"print(1)\n", "src/a/b.py": b"x = 1\n", "run.sh": b"#!/bin/sh\n"}
    files = []
    for path, text in contents.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text)
        files.append(
            ProjectFile(path=path, executable=path == "run.sh", size=len(text), sha256=hashlib.sha256(text).hexdigest())
        )
    return Project(files=tuple(sorted(files, key=lambda file: file.path)))


def test_the_project_and_our_own_files(tmp_path: Path) -> None:
    plan = plan_of(lock_of(base_in_registry(), project=ProjectFiles(include=("*",))), project_in(tmp_path))
    metadata, project = small_layers(plan, project=tmp_path, files=FILES)
    assert {name for name in members(b"".join(metadata.blocks())) if name.startswith("opt")} == {
        "opt",
        "opt/envlock",
        "opt/envlock/envlock.lock",
        "opt/envlock/requirements.txt",
    }
    found = members(b"".join(project.blocks()))
    assert list(found) == [
        "workspace",
        "workspace/run.sh",
        "workspace/src",
        "workspace/src/a",
        "workspace/src/a/b.py",
        "workspace/train.py",
    ]
    assert found["workspace/run.sh"] == ("0o755", 1000, 1000, EPOCH)
    assert found["workspace/train.py"] == ("0o644", 1000, 1000, EPOCH)
    assert project.title == "3 files of the project in /workspace"
    (tmp_path / "train.py").write_bytes(b"print(2)\n")
    with pytest.raises(StorageError, match="changed while"):
        list(project.blocks())


def test_the_key_of_a_small_layer_is_what_it_is_made_from(tmp_path: Path) -> None:
    lock = lock_of(base_in_registry(), project=ProjectFiles(include=("*",)))
    plan = plan_of(lock, project_in(tmp_path))
    first, again = (small_layers(plan, project=tmp_path, files=FILES)[1] for _ in range(2))
    assert first.key == again.key
    (tmp_path / "train.py").write_bytes(b"print(2)\n")
    file = replace(plan.project.files[-1], sha256=hashlib.sha256(b"print(2)\n").hexdigest())
    other = plan_of(lock, replace(plan.project, files=(*plan.project.files[:-1], file)))
    assert small_layers(other, project=tmp_path, files=FILES)[1].key != first.key


# --- the same everywhere ----------------------------------------------------------------------------------------------

SCRIPT = """
import io, sys, os
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.composing import *
from tests.unit.test_compose import FILES, project_in
from envlock.compose import small_layers, compose
from envlock.formats.gzip_members import compress
from envlock.formats.oci_archive import archive, loadable
folder = Path(sys.argv[2]); folder.mkdir()
base, store = base_in_registry(), Layers()
plan = plan_of(lock_of(base), project_in(folder))
made = small_layers(plan, project=folder, files=FILES)
layers = [store.noise("one", 2 << 20), *map(store.small, made)]
image = compose(plan, layers, base_config=base.config)
whole = b"".join(archive(loadable(image, platform="linux/amd64"), names=["demo:v1"], open_layer=store.open))
blobs = []
for layer in layers:
    blobs.append(compress(store.open(layer), io.BytesIO().write).blob.digest)
print(image.image_id, [layer.key for layer in layers], blobs, oci.digest_of(whole))
"""


def test_the_same_bytes_with_another_user_locale_time_zone_and_hash_seed(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    settings = [
        ({"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C", "TMPDIR": str(tmp_path)}, 0o077),
        (
            {
                "PYTHONHASHSEED": "4242",
                "TZ": "America/Lima",
                "LC_ALL": "C.UTF-8",
                "PYTHONUTF8": "0",
                "HOME": "/nonexistent",
            },
            0o000,
        ),
        ({"PYTHONHASHSEED": "7", "TZ": "UTC", "LANG": "tr_TR.UTF-8", "SOURCE_DATE_EPOCH": "99"}, 0o027),
    ]
    found = set()
    for number, (env, umask) in enumerate(settings):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(root), str(tmp_path / f"p{number}")],
            env={"PATH": os.environ["PATH"], **env},
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


def test_this_image_has_had_these_digests_from_the_first_day() -> None:
    # Other bytes for the same lock would break the promise to everybody who recorded a digest.
    store = Layers()
    image = image_of(base_in_registry(), [store.add("one", tar_of({"a": b"a"}))])
    stable = json.loads(image.config)
    stable["config"]["Labels"] = {}  # the fingerprint is held by tests of its own
    assert (
        oci.digest_of(oci.canonical(stable))
        == "sha256:555262323070fae5e9f2e4093729f9e58d161762fc3a7da3e66252d0f1103bda"
    )
