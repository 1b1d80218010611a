"""A build in a process of its own, for a test to interrupt: ``python -m tests.support.interrupted_build FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from envlock.adapters.engine import DockerEngine
from envlock.build import build
from envlock.model.spec import ImageOptions
from tests.support.building import Goods, lock_on, plan_of, workshop
from tests.support.debs import make_deb
from tests.support.progress import Remembering, RememberedTask

REPOSITORY = "envlock-test/interrupted"


class _Told(Remembering):
    """Says on stdout what the build says, for the test to know where it is."""

    def task(self, title, *, total=None, unit=""):
        return _Telling(title)


class _Telling(RememberedTask):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def note(self, text):
        print(text, flush=True)


def main(folder: Path) -> None:
    goods, engine = Goods(), DockerEngine(os.environ)
    slow = make_deb("tiny-slow", scripts={"postinst": "#!/bin/sh\necho now it is slow\nexec sleep 60\n"})
    lock = lock_on(
        engine, "envlock/base:py3.11", goods, debs=(goods.deb(slow),), image=ImageOptions(repository=REPOSITORY)
    )
    plan = plan_of(lock)
    build(plan, workshop=workshop(engine, folder, _Told()), wanted=goods.wanted(), project=folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
