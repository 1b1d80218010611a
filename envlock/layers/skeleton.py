"""The empty virtual environment as a layer: what ``python -m venv --without-pip`` of the base's own Python leaves.

It is different from version to version, and from distribution to distribution, so the base itself is asked, once.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from envlock.errors import WorldError
from envlock.layers.keys import FORMAT
from envlock.layers.store import LayerStore
from envlock.layers.tar_writer import TarWriter
from envlock.layers.target import Target
from envlock.model.layers import StoredLayer
from envlock.model.lock import Base

# Run by the base's Python, which makes the environment where it will be and says what it made. Python 3.8 on.
PROGRAM = r"""
import base64, json, os, subprocess, sys
venv = sys.argv[1]
made = subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], stdout=2)
if made.returncode:
    sys.exit(made.returncode)
entries = {}
for folder, folders, files in os.walk(venv):
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
print(json.dumps(entries))
"""

RunPython = Callable[[str, list[str]], bytes]  # a program and its arguments, run by the base's Python → its stdout


def skeleton_layer(store: LayerStore, base: Base, target: Target, *, run: RunPython) -> StoredLayer:
    """Return the layer of the empty virtual environment; ``run`` is only called where the store lacks it.

    ``run`` must run the program as root in a file system of its own that is the base's, where the environment is not
    there yet, with the lock's path of the interpreter. Raises what it raises, ``WorldError`` and ``StorageError``.
    """
    key = _key(base, target)
    found = store.find(key)
    if found is not None:
        return found
    with store.layers.making(key) as making:
        if making.found:
            return making.found
        entries = _entries(run(PROGRAM, [target.venv]))
        tar = TarWriter(making.file)
        tar.folder(target.venv.lstrip("/"))
        for path, entry in sorted(entries.items()):
            _write(tar, path.lstrip("/"), entry)
        written = tar.finish()
        title = f"virtual environment of Python {target.python}"
        return making.keep(diff_id=written.diff_id, size=written.size, title=title)


def _key(base: Base, target: Target) -> str:
    """Return the content key: the base's files decide, not what its image is called."""
    what = ["envlock layer", FORMAT, "venv", target.python, target.venv, base.python.executable, list(base.diff_ids)]
    return hashlib.sha256(json.dumps(what, separators=(",", ":")).encode()).hexdigest()


def _entries(output: bytes) -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads(output)
    except ValueError:
        entries = None
    if not isinstance(entries, dict) or not entries:
        raise WorldError("the base's Python did not make a virtual environment")
    return entries


def _write(tar: TarWriter, path: str, entry: dict[str, Any]) -> None:
    if "link" in entry:
        tar.symlink(path, entry["link"])
    elif "folder" in entry:
        tar.folder(path)
    else:
        content = base64.b64decode(entry["content"])
        tar.file(path, (content,), size=len(content), executable=entry["executable"])
