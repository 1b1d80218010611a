"""``verify`` on the real engine: images that are what they have to be, and such that somebody changed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.errors import InputError
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.model.lock import Lock
from envlock.model.plan import Project
from envlock.plan import project_digest
from envlock.verify import Expectation, Report, verify
from tests.support.building import Goods, lock_on
from tests.support.progress import Remembering
from tests.support.tars import entry, folder, tar

pytestmark = pytest.mark.engine

BASE = "envlock/base:py3.11"
SITE = "opt/venv/lib/python3.11/site-packages"
RECORD = b"mod.py,,\nother.py,,\nmod-1.0.dist-info/RECORD,,\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    found = DockerEngine(os.environ)
    yield found
    found.close()


@pytest.fixture(scope="module")
def lock(engine: DockerEngine) -> Lock:
    return lock_on(engine, BASE, Goods())


def layer(lock: Lock) -> bytes:
    parts = f"{SITE}/mod-1.0.dist-info".split("/")
    return tar(
        folder("opt"),
        folder("opt/envlock"),
        entry("opt/envlock/envlock.lock", dump_lock(lock).encode()),
        *(folder("/".join(parts[:depth])) for depth in range(2, len(parts) + 1)),
        entry(f"{SITE}/mod.py", b"x = 1\n"),
        entry(f"{SITE}/other.py", b"y = 1\n"),
        entry(f"{SITE}/mod-1.0.dist-info/RECORD", RECORD),
    )


def build(engine: DockerEngine, lock: Lock, *steps: str) -> str:
    labels = f'"envlock.fingerprint"="{fingerprint(lock)}" "envlock.project"="{project_digest(Project())}"'
    lines = [f"FROM {BASE}", f"LABEL {labels}", "ADD layer.tar /", *steps]
    context = tar(entry("Dockerfile", "\n".join(lines).encode()), entry("layer.tar", layer(lock)))
    return engine.build(io.BytesIO(context), platform="linux/amd64", on_line=lambda _: None)


def report_on(engine: DockerEngine, lock: Lock, *steps: str) -> Report:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        yield io.BytesIO(layer(lock))

    image = build(engine, lock, *steps)
    try:
        return verify(
            image,
            engine=engine,
            expectation=lambda found, _: Expectation(base=found.base.image_id, layers=[opened]),
            progress=Remembering(),
        )
    finally:
        engine.remove(image)


def test_a_sound_image(engine: DockerEngine, lock: Lock) -> None:
    report = report_on(engine, lock)
    assert report.findings == ()
    assert report.files > 1000
    assert report.fingerprint == fingerprint(lock)


def test_one_file_changed_one_removed_one_added(engine: DockerEngine, lock: Lock) -> None:
    steps = (
        f"RUN echo 'x = 2' > /{SITE}/mod.py && rm /{SITE}/other.py && touch -d 2001-01-01 /{SITE}/mod-1.0.dist-info",
        f"RUN echo 'evil.py,,' > /{SITE}/evil.py && chmod 4755 /usr/bin/dpkg && rm /etc/issue && ln -sf /tmp /srv",
    )
    found = {
        it.where: (it.message, it.package.split()[0] if it.package else "")
        for it in report_on(engine, lock, *steps).findings
    }
    assert found == {
        f"/{SITE}/mod.py": ("has other content", "mod"),
        f"/{SITE}/other.py": ("is missing", "mod"),
        f"/{SITE}/evil.py": ("was added", ""),
        "/etc/issue": ("is missing", "base-files"),
        "/srv/tmp": ("was added", ""),
        "/usr/bin/dpkg": ("has mode 4755 for 0755", "dpkg"),
    }


def test_an_image_that_is_not_there_or_not_ours(engine: DockerEngine, lock: Lock) -> None:
    def expectation(*_: object) -> Expectation:
        raise AssertionError

    with pytest.raises(InputError, match="has no image"):
        verify("envlock-test/none:x", engine=engine, expectation=expectation, progress=Remembering())
    with pytest.raises(InputError, match="carries no lock"):
        verify(BASE, engine=engine, expectation=expectation, progress=Remembering())
