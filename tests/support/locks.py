"""Locks and what they are made of, for tests: real in form, made up in content."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from envlock.model.lock import AptSource, Base, BaseOs, BasePython, Deb, Inputs, Lock, PythonSource, Wheel
from envlock.model.spec import ImageOptions, ProjectFiles, Seeds, Tracking


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_wheel(name: str, version: str = "1.0", **overrides: Any) -> Wheel:
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    wheel = Wheel(name=name, version=version, source="default", filename=filename, sha256=sha256(filename), size=1000)
    return replace(wheel, **overrides)


def make_deb(name: str, version: str = "1.0-1", **overrides: Any) -> Deb:
    path = f"pool/main/{name[0]}/{name}/{name}_{version.replace(':', '%3a')}_amd64.deb"
    deb = Deb(
        name=name, version=version, architecture="amd64", source="bookworm", path=path, sha256=sha256(path), size=2000
    )
    return replace(deb, **overrides)


def make_base(**overrides: Any) -> Base:
    base = Base(
        reference="example.org/base:py3.11",
        repository="example.org/base",
        manifest_digest="sha256:" + sha256("manifest"),
        image_id="sha256:" + sha256("config"),
        diff_ids=("sha256:" + sha256("layer"),),
        os=BaseOs(id="debian", version_id="12", codename="bookworm", pretty_name="Debian GNU/Linux 12 (bookworm)"),
        python=BasePython(
            version="3.11.2",
            executable="/usr/bin/python3",
            prefix="/usr",
            implementation="cpython",
            libc="glibc 2.36",
            markers={"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux"},
        ),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    return replace(base, **overrides)


def make_lock(**overrides: Any) -> Lock:
    lock = Lock(
        name="demo",
        platform="linux/amd64",
        base=make_base(),
        apt_sources=(AptSource(name="bookworm", suite="bookworm", components=("main",)),),
        debs=(make_deb("git", "1:2.39.5-0+deb12u2", requested=True), make_deb("libcurl3-gnutls", "7.88.1-10+deb12u12")),
        python_sources=(PythonSource(name="default", kind="index"),),
        wheels=(
            make_wheel("numpy", "2.1.0", requested=True, required_by=("scipy",)),
            make_wheel("scipy", "1.14.0", requested=True),
        ),
        installer=make_wheel("pip", "25.3"),
        cuda=None,
        env={"TOKENIZERS_PARALLELISM": "false"},
        seeds=Seeds(seed=42, data_seed=7, cudnn_deterministic=True),
        image=ImageOptions(repository="demo"),
        project=ProjectFiles(include=("*.py",)),
        mlflow=Tracking(),
        inputs=Inputs(
            base="example.org/base:py3.11",
            python="3.11",
            platform="linux/amd64",
            cuda=None,
            as_of=None,
            apt=("git",),
            apt_repositories=(),
            apt_snapshot=None,
            indexes=(),
            find_links=(),
            requirements=("numpy", "scipy"),
            constraints=(),
            sdist=(),
            resolver="pip-tools",
        ),
    )
    return replace(lock, **overrides)
