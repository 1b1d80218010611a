"""A build in its own process, for a test to interrupt: ``python -m tests.support.interrupted_build BASE FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from envlock.adapters.engine import DockerEngine
from envlock.build import build
from envlock.model.spec import ImageOptions
from tests.support.building import Goods, lock_on, plan_of, workshop
from tests.support.debs import make_deb
from tests.support.progress import RememberedTask, Remembering

REPOSITORY = "envlock-build-test/interrupted"


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
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def main(base: str, folder: Path) -> None:
    goods, engine = Goods(), DockerEngine(os.environ)
    slow = make_deb("tiny-slow", scripts={"postinst": "#!/bin/sh\necho now it is slow\nexec sleep 60\n"})
    lock = lock_on(engine, base, goods, debs=(goods.deb(slow),), image=ImageOptions(repository=REPOSITORY))
    plan = plan_of(lock)
    build(plan, workshop=workshop(engine, folder, _Told()), wanted=goods.wanted, project=folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
