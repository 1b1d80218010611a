"""Layers of wheels are what pip leaves, file by file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envlock.adapters.compilers import process_compiler
from envlock.layers.make import LayerMaker
from envlock.layers.store import LayerStore
from envlock.layers.target import Target
from envlock.model.lock import Wheel
from tests.support.layers import HERE, lock_wheel, saved
from tests.support.packages import Package, wheel
from tests.support.pip_installs import differences, pip_install

# Each for a reason: [data] files, scripts of its own, namespace packages, headers, the same files in two, code that
# does not compile, code in a rare encoding, old metadata, pip and setuptools themselves; and what these need.
REAL = """
jupyterlab notebook nbconvert widgetsnbextension ipywidgets debugpy
scipy numpy pandas scikit-learn joblib matplotlib pythran
grpcio grpcio-status protobuf google-api-core google-cloud-storage googleapis-common-protos google-auth proto-plus
zope.interface zope.event zope.component zope.hookable
setuptools pip wheel
ruff cmake ninja black awscli httpie docutils sphinx
sphinxcontrib-applehelp sphinxcontrib-htmlhelp sphinxcontrib-jsmath
jaraco.collections jaraco.functools jaraco.text backports.tarfile
PyJWT jwt
greenlet pybind11 pybind11-global
sqlalchemy alembic flask flask-cors werkzeug jinja2 markupsafe click itsdangerous blinker
requests urllib3 idna certifi charset-normalizer
aiohttp aiosignal frozenlist multidict yarl propcache attrs
fastapi starlette pydantic pydantic-core typing-extensions annotated-types anyio h11 httpcore httpx uvicorn
opentelemetry-api opentelemetry-sdk opentelemetry-proto opentelemetry-semantic-conventions
pyyaml packaging filelock fsspec tqdm regex safetensors tokenizers
six python-dateutil tzdata psutil pygments rich markdown-it-py mdurl
pyparsing fonttools kiwisolver cycler pillow contourpy
traitlets tornado pyzmq jupyter-client jupyter-core jedi parso
cffi pycparser cryptography pyasn1 pyasn1-modules rsa
graphene graphql-core graphql-relay huey ply pexpect ptyprocess
"""


def compared(wheels: list[Wheel], paths: dict[str, Path], folder: Path) -> list[str]:
    """Install the wheels with pip and make layers of them, for the same environment."""
    venv = folder / "venv"
    pip_install(venv, wheels, paths, folder / "pip")
    target = Target(python=HERE, venv=str(venv))
    store = LayerStore(folder / "store")
    with process_compiler((sys.executable,), target) as compiler:
        layers = LayerMaker(store, compiler, target).make(wheels, fetch=lambda _: paths)
    return differences(store, layers, venv)


def awkward() -> list[Package]:
    """Return wheels that only an enemy of installers would make."""
    return [
        wheel(
            "odd",
            files={
                "odd/__init__.py": "X = {1, 2}\n",
                "odd/broken.py": "def\n",
                "odd/nul.py": b"a = 1\0",
                "odd/latin.py": "# coding: latin-1\nx = 'é'\n".encode("latin-1"),
                "odd/bom.py": b"\xef\xbb\xbfx = 1\n",
                "odd/empty.py": "",
                "odd/" + "deep/" * 30 + "leaf.py": "D = 1\n",
                "odd/żółw.py": "Z = 1\n",
                'odd/a, "b".txt': "quoted",
                "odd.pth": "import sys\n",
                "odd-1.0.data/scripts/tool": "#!python\nimport odd\n",
                "odd-1.0.data/scripts/tool.py": "#!pythonw -x\nimport odd\n",
                "odd-1.0.data/scripts/bare": "#!python",
                "odd-1.0.data/scripts/shell": "#!/bin/sh\n",
                "odd-1.0.data/headers/sub/odd.h": "",
                "odd-1.0.data/data/etc/odd/settings.py": "S = 1\n",
                "odd-1.0.data/data/lib64/odd.txt": "64",
                "odd-1.0.data/purelib/pure.py": "",
                "odd-1.0.data/platlib/plat.py": "",
                "odd-1.0.dist-info/INSTALLER": "somebody else\n",
            },
            entry_points={
                "console_scripts": {"odd": "odd:main", "odd.sub": "odd.sub:Class.run [extra]"},
                "gui_scripts": {"oddw": "odd:gui"},
                "odd.plugins": {"x": "not a script"},
            },
        ),
        wheel("same", requires_python=">=3", files={"shared/__init__.py": "WHO = 'same'\n", "shared/one.py": ""}),
        wheel("also", files={"shared/__init__.py": "WHO = 'also'\n", "shared/one.py": "def\n", "bin.txt": ""}),
        wheel("zzz", requires_python=">=3", files={"shared/__init__.py": "WHO = 'zzz'\n", "shared/one.py": "A = 1\n"}),
    ]


def test_made_up_wheels(tmp_path: Path) -> None:
    wheels, paths = saved(awkward(), tmp_path / "wheels")
    assert compared(wheels, paths, tmp_path) == []


@pytest.mark.network
def test_a_real_list(tmp_path: Path) -> None:
    """Over 100 packages, with their code compiled. ENVLOCK_TEST_WHEELS names a folder where their wheels may stay."""
    folder = Path(os.environ.get("ENVLOCK_TEST_WHEELS", tmp_path / "wheels"))
    if not folder.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", str(folder), *REAL.split()], check=True, timeout=600)
    paths = {lock_wheel(path): path for path in sorted(folder.glob("*.whl"))}
    assert len(paths) >= 100
    assert compared(list(paths), {one.sha256: path for one, path in paths.items()}, tmp_path) == []
