"""The empty virtual environment as a layer: what ``python -m venv --without-pip`` of the base's own Python leaves.

It is different from version to version, and from distribution to distribution, so the base itself is asked, once.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from envlock.errors import BuildFailed, WorldError
from envlock.layers.keys import FORMAT
from envlock.layers.store import LayerStore
from envlock.layers.tar_writer import TarWriter
from envlock.layers.target import Target
from envlock.model.layers import StoredLayer
from envlock.model.lock import Base

# ``listed(folder)`` says what is below a folder, ``done`` prints the answer. Python 3.8 on, as all programs here.
ANSWER = r"""
import base64, json, os, sys
def listed(top):
    entries = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                entries[path] = {"link": os.readlink(path)}
            elif os.path.isdir(path):
                entries[path] = {"folder": True}
            else:
                with open(path, "rb") as file:
                    content = base64.b64encode(file.read()).decode()
                entries[path] = {"content": content, "executable": bool(os.stat(path).st_mode & 0o111)}
    return entries
def done(entries, installed):
    print(json.dumps({"entries": entries, "installed": sorted(installed)}))
"""

# Run by the base's Python, which makes the environment where it will be and says what it made, and what an interpreter
# of it finds to be installed with the variables that it was started with.
PROGRAM = (
    ANSWER
    + r"""
import subprocess
venv = sys.argv[1]
os.umask(0o022)
made = subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", venv], stdout=2)
if made.returncode:
    sys.exit(made.returncode)
entries = listed(venv)
SEEN = "import importlib.metadata as m, json; print(json.dumps([str(d.metadata['Name']) for d in m.distributions()]))"
python = os.path.join(venv, "bin", "python")
# In the empty environment: the folder where it starts is on the interpreter's path.
seen = subprocess.run([python, "-B", "-c", SEEN], stdout=subprocess.PIPE, cwd=venv)
if seen.returncode:
    sys.exit(seen.returncode)
done(entries, json.loads(seen.stdout.splitlines()[-1]))
"""
)

Skeleton = Mapping[str, Mapping[str, Any]]  # absolute path → what is there, as ``listed`` says it


def skeleton_layer(store: LayerStore, base: Base, target: Target, *, make: Callable[[str], Skeleton]) -> StoredLayer:
    """Return the layer of the empty virtual environment at ``target.venv``; ``make`` is only asked where it is lacking.

    Raises what that raises, and ``StorageError``.
    """
    key, title = _key(base, target), f"virtual environment of Python {target.python}"
    found = store.find_or_bring(key)
    if found is not None:
        return replace(found, title=title)  # it is in the image's history: not for a remote to say
    with store.layers.making(key) as making:
        if making.found:
            return replace(making.found, title=title)
        entries = make(target.venv)
        tar = TarWriter(making.file)
        tar.folder(target.venv.lstrip("/"))
        for path, entry in sorted(entries.items()):
            _write(tar, path.lstrip("/"), entry)
        written = tar.finish()
        return making.keep(diff_id=written.diff_id, size=written.size, title=title)


def _key(base: Base, target: Target) -> str:
    """Return the content key: the base's files decide, and what its variables tell Python; not what it is called."""
    told = {name: value for name, value in sorted(base.env.items()) if name.startswith("PYTHON")}
    what = ["envlock layer", FORMAT, "venv", target.python, target.venv, base.python.executable, list(base.diff_ids)]
    return hashlib.sha256(json.dumps([*what, told], separators=(",", ":")).encode()).hexdigest()


def read_skeleton(output: bytes) -> Skeleton:
    """Return what a program's ``done`` printed.

    Raises ``WorldError`` where that is nothing sound, ``BuildFailed`` where the empty environment has packages in it.
    """
    try:
        answer = json.loads(output)
        entries, installed = answer["entries"], answer["installed"]
    except (ValueError, KeyError, TypeError):
        entries, installed = None, []
    if not isinstance(entries, dict) or not entries:
        raise WorldError("the base's Python did not make a virtual environment")
    if installed:
        raise BuildFailed(
            f"the base adds {len(installed)} packages to every environment"
            if len(installed) > 1
            else "the base adds a package to every environment",
            details=[str(name) for name in installed],
            hint="what is installed would not be what the lock says: is PYTHONPATH set in the base, or a site module?",
        )
    return entries


def _write(tar: TarWriter, path: str, entry: Mapping[str, Any]) -> None:
    if "link" in entry:
        tar.symlink(path, entry["link"])
    elif "folder" in entry:
        tar.folder(path)
    else:
        content = base64.b64decode(entry["content"])
        tar.file(path, (content,), size=len(content), executable=entry["executable"])
