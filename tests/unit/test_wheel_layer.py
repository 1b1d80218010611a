"""What one wheel becomes; that this is what pip leaves is held to pip itself in tests/integration."""

from __future__ import annotations

import csv
import io
import stat
import zipfile
from pathlib import Path

import pytest

from envlock.layers.scripts import EntryPoints, generated_scripts, parse_entry_points
from envlock.layers.target import Target
from tests.support.layers import HERE, files_of, installed, maker, raw_wheel, saved
from tests.support.packages import save, wheel

TARGET = Target(python=HERE)
SITE = f"lib/python{TARGET.minor}/site-packages"
INFO = f"{SITE}/demo-1.0.dist-info"


def test_all_kinds_of_files_go_where_pip_puts_them(tmp_path: Path) -> None:
    package = wheel(
        "demo",
        files={
            "demo/__init__.py": "A = 1\n",
            "demo/data.txt": "x",
            "demo.pth": "/somewhere\n",
            "demo-1.0.data/purelib/pure.py": "",
            "demo-1.0.data/platlib/plat.so": b"\x7fELF",
            "demo-1.0.data/scripts/tool": "#!python\nprint()\n",
            "demo-1.0.data/scripts/shell": "#!/bin/sh\n",
            "demo-1.0.data/headers/demo.h": "",
            "demo-1.0.data/data/share/demo/readme": "r",
            "demo-1.0.data/data/lib64/extra.txt": "e",
        },
        entry_points={"console_scripts": {"demo": "demo.cli:main"}, "gui_scripts": {"demo-gui": "demo:gui.run"}},
    )
    found = installed(save(package, tmp_path), TARGET)
    assert {name for name, entry in found.items() if entry.kind == "file"} == {
        f"{SITE}/demo/__init__.py",
        f"{SITE}/demo/__pycache__/__init__.{TARGET.cache_tag}.pyc",
        f"{SITE}/demo/data.txt",
        f"{SITE}/demo.pth",
        f"{SITE}/pure.py",
        f"{SITE}/__pycache__/pure.{TARGET.cache_tag}.pyc",
        f"{SITE}/plat.so",
        "bin/tool",
        "bin/shell",
        "bin/demo",
        "bin/demo-gui",
        f"include/site/python{TARGET.minor}/demo/demo.h",
        "share/demo/readme",
        "lib/extra.txt",  # lib64 is a link to lib
        *(f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "INSTALLER", "REQUESTED", "entry_points.txt")),
    }
    assert found["bin/tool"].content == b"#!/opt/venv/bin/python\nprint()\n"
    assert found["bin/demo"].content == (
        b"#!/opt/venv/bin/python\nimport sys\nfrom demo.cli import main\nif __name__ == '__main__':\n"
        b"    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(main())\n"
    )
    assert b"from demo import gui\n" in found["bin/demo-gui"].content
    assert b"sys.exit(gui.run())" in found["bin/demo-gui"].content
    assert found["bin/demo"].mode == 0o755
    assert found[f"{INFO}/INSTALLER"].content == b"pip\n"


def test_record_has_every_file(tmp_path: Path) -> None:
    package = wheel(
        "demo",
        files={"demo.py": "A = 1\n", "broken.py": "def\n", "demo-1.0.data/scripts/tool": "#!python\n"},
        entry_points={"console_scripts": {"demo": "demo:main"}},
    )
    found = installed(save(package, tmp_path), TARGET, requested=False)
    text = found[f"{INFO}/RECORD"].content.decode()
    assert text.endswith("\r\n")
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(text))}
    assert list(rows) == sorted(rows)
    assert set(rows) == {
        "../../../bin/demo",
        "../../../bin/tool",
        "__pycache__/demo." + TARGET.cache_tag + ".pyc",
        "broken.py",
        "demo.py",
        *(f"demo-1.0.dist-info/{name}" for name in ("INSTALLER", "METADATA", "RECORD", "WHEEL", "entry_points.txt")),
    }
    assert rows["__pycache__/demo." + TARGET.cache_tag + ".pyc"] == ["", ""]
    assert rows["../../../bin/tool"][1] == str(len("#!/opt/venv/bin/python\n"))
    assert f"{INFO}/REQUESTED" not in found


def test_executable_bits_are_those_of_the_archive(tmp_path: Path) -> None:
    members = []
    for name, mode in (("run", stat.S_IFREG | 0o700), ("plain", stat.S_IFREG | 0o600), ("odd", 0o755)):
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        members.append((member, b""))
    found = installed(raw_wheel(tmp_path, members), TARGET)
    assert {name: found[f"{SITE}/{name}"].mode for name in ("run", "plain", "odd")} == {
        "run": 0o755,
        "plain": 0o644,
        "odd": 0o644,  # pip asks for a regular file's mode
    }


def test_compiled_files_of_the_wheel_give_way_to_ours(tmp_path: Path) -> None:
    name = f"__pycache__/{{}}.{TARGET.cache_tag}.pyc"
    package = wheel(
        "demo",
        files={"good.py": "", "bad.py": "def\n", name.format("good"): b"old", name.format("bad"): b"old"},
    )
    found = installed(save(package, tmp_path), TARGET)
    assert found[f"{SITE}/{name.format('good')}"].content != b"old"
    assert found[f"{SITE}/{name.format('bad')}"].content == b"old"


def test_a_wrapper_in_the_wheel_gives_way_to_the_entry_point(tmp_path: Path) -> None:
    package = wheel(
        "demo",
        files={
            "demo.py": "",
            "demo-1.0.data/scripts/demo": "#!python\nold\n",
            "demo-1.0.data/scripts/demo-script.py": "",
        },
        entry_points={"console_scripts": {"demo": "demo:main"}},
    )
    found = installed(save(package, tmp_path), TARGET)
    assert b"old" not in found["bin/demo"].content
    assert "bin/demo-script.py" not in found


def test_large_files_stream(tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = raw_wheel(tmp_path / str(method), [("large.bin", content)], method=method)
        assert installed(path, TARGET)[f"{SITE}/large.bin"].content == content


def test_versions_of_pip_are_those_of_the_target() -> None:
    points = EntryPoints(console={"pip": "pip:main", "pip3": "pip:main", "pip3.9": "pip:main", "other": "o:m"})
    scripts = generated_scripts(points, Target(python="3.12.1"))
    assert set(scripts) == {"pip", "pip3", "pip3.12", "other"}


@pytest.mark.parametrize(
    ("venv", "first"),
    [
        ("/opt/venv", b"#!/opt/venv/bin/python\n"),
        ("/" + "x" * 130, b"#!/bin/sh\n'''exec' /" + b"x" * 130 + b"/bin/python \"$0\" \"$@\"\n' '''\n"),
        ("/a b", b"#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\n"),
    ],
)
def test_first_lines_that_the_kernel_cannot_read(venv: str, first: bytes) -> None:
    script = generated_scripts(EntryPoints(console={"demo": "demo:main"}), Target(python="3.11.2", venv=venv))["demo"]
    assert script.startswith(first + b"import sys\n")


def test_entry_points_are_read_as_python_reads_them() -> None:
    points = parse_entry_points("# c\n[console_scripts]\n a = b : c [x]\n\n[other]\nq = r\n[gui_scripts]\ng=h:i\n")
    assert points == EntryPoints(console={"a": "b : c [x]"}, gui={"g": "h:i"})


def test_shadowed_files_are_in_no_layer_but_in_their_record(tmp_path: Path) -> None:
    wheels, paths = saved(
        [wheel("zeta", files={"same.py": "Z = 1\n", "zeta.py": ""}), wheel("beta", files={"same.py": "B = 1\n"})],
        tmp_path,
    )
    make, store = maker(tmp_path / "store", TARGET)
    layers = make.make(wheels, fetch=lambda _: paths)
    found = files_of(store, layers, below=TARGET.venv)
    assert found[f"{SITE}/same.py"].content == b"B = 1\n"
    assert b"same.py," in found[f"{SITE}/zeta-1.0.dist-info/RECORD"].content
