"""The lock's packages for pip and apt."""

from __future__ import annotations

from dataclasses import replace

from envlock.formats.listings import parse_freeze
from envlock.formats.requirements_txt import apt_txt, requirements_txt, sha256sums
from tests.support.locks import make_deb, make_lock, make_wheel, sha256


def test_requirements():
    torch = make_wheel("torch", "2.1.2+cu118", source="pytorch", requested=True)
    lock = make_lock(wheels=(torch, make_wheel("alone"), *make_lock().wheels))
    text = requirements_txt(lock)
    assert text.splitlines()[2:] == [
        "alone==1.0 \\",
        f"    --hash=sha256:{sha256('alone-1.0-py3-none-any.whl')}",
        "numpy==2.1.0 \\",
        f"    --hash=sha256:{sha256('numpy-2.1.0-py3-none-any.whl')}",
        "    # via envlock.yaml, scipy",
        "scipy==1.14.0 \\",
        f"    --hash=sha256:{sha256('scipy-1.14.0-py3-none-any.whl')}",
        "    # via envlock.yaml",
        "torch==2.1.2+cu118 \\",
        f"    --hash=sha256:{torch.sha256}",
        "    # via envlock.yaml (from index pytorch)",
    ]
    assert all(line.startswith("#") for line in text.splitlines()[:2])
    assert parse_freeze(text).packages == {wheel.name: wheel.version for wheel in lock.wheels}


def test_the_order_in_the_lock_does_not_matter():
    lock = make_lock()
    assert requirements_txt(lock) == requirements_txt(replace(lock, wheels=lock.wheels[::-1]))


def test_apt():
    debs = (make_deb("git", "1:2.39.5-0+deb12u2"), make_deb("adduser", "3", architecture="all"))
    assert apt_txt(make_lock(debs=debs)) == "adduser:all=3\ngit:amd64=1:2.39.5-0+deb12u2\n"
    assert sha256sums(debs[:1]) == f"{debs[0].sha256}  git_1%3a2.39.5-0+deb12u2_amd64.deb\n"
