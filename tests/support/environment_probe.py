"""What an image's environment is, as its own Python sees it: runs inside, as standard input, and prints a JSON object.

Only the standard library, and nothing of this project: it is sent as text.
"""

# Thousands of files: paths are text.
# ruff: noqa: PTH109, PTH110, PTH112, PTH115, PTH116, PTH118, PTH123
from __future__ import annotations

import contextlib
import hashlib
import json
import marshal
import os
import pkgutil
import stat
import sys
import sysconfig
import tokenize
import types
from importlib import metadata

ROOT = "/opt/venv"
PARTS = (
    *("co_code", "co_names", "co_name", "co_qualname", "co_linetable", "co_exceptiontable", "co_flags"),
    *("co_varnames", "co_cellvars", "co_freevars", "co_argcount", "co_stacksize", "co_firstlineno"),
)


def files() -> dict:
    """Return every file and folder below the environment: kind, mode, owner, what is in it."""
    found = {}
    for folder, folders, names in os.walk(ROOT):
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            mode, owner = f"{stat.S_IMODE(status.st_mode):o}", f"{status.st_uid}:{status.st_gid}"
            if stat.S_ISLNK(status.st_mode):
                found[os.path.relpath(path, ROOT)] = ["link", "", owner, os.readlink(path)]
            elif stat.S_ISDIR(status.st_mode):
                found[os.path.relpath(path, ROOT)] = ["folder", mode, owner, ""]
            else:
                with open(path, "rb") as file:
                    content = file.read()
                found[os.path.relpath(path, ROOT)] = ["file", mode, owner, digest(path, content)]
    return found


def digest(path: str, content: bytes) -> str:
    """Return a hash of a file's bytes; of a compiled one: of its code, and how it is held against its source."""
    if not path.endswith(".pyc"):
        return hashlib.sha256(content).hexdigest()
    code = hashlib.sha256(content[:4] + content[8:16] + flat(marshal.loads(content[16:])).encode()).hexdigest()
    return f"{int.from_bytes(content[4:8], 'little')} {code}"


def flat(value: object) -> str:
    """Write code, and what is in it, the same way each time: sets have no order, and marshal's references vary."""
    if isinstance(value, types.CodeType):
        # pip goes to bin by way of site-packages
        parts = [os.path.normpath(value.co_filename), *(flat(getattr(value, part)) for part in PARTS)]
        return repr(parts + [flat(one) for one in value.co_consts])
    if isinstance(value, frozenset):
        return repr(sorted(flat(one) for one in value))
    if isinstance(value, tuple):
        return repr([flat(one) for one in value])
    return repr(value)


def encodings() -> dict:
    """Return the encoding of each source that is not UTF-8."""
    found = {}
    for folder, _, names in os.walk(ROOT):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".py"):
                with open(path, "rb") as file, contextlib.suppress(SyntaxError):
                    found[os.path.relpath(path, ROOT)] = tokenize.detect_encoding(file.readline)[0]
    return {path: encoding for path, encoding in found.items() if not encoding.startswith("utf-8")}


def records() -> dict:
    """Return the lines of each RECORD, without those that differ by right."""
    found = {}
    for one in metadata.distributions(path=[sysconfig.get_path("purelib")]):
        lines = (one.read_text("RECORD") or "").splitlines()
        found[one.metadata["Name"]] = sorted(line for line in lines if not passed(line))
    return found


def passed(line: str) -> bool:
    path = line.rpartition(",")[0].rpartition(",")[0]
    return path.endswith(("/REQUESTED", ".pyc"))


def tried(work) -> str:
    """Do something in a process of its own, and say how it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        quiet = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        try:
            work()
            said = "fine"
        except BaseException as error:  # noqa: BLE001 - whatever it is
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode()[:2000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return said if not status else f"{said} exit status {status}"


def scripts() -> dict:
    """Return each program of an entry point: its first line, whether it can be run, and how its target loads."""
    found = {}
    for point in [*metadata.entry_points(group="console_scripts"), *metadata.entry_points(group="gui_scripts")]:
        path = f"{ROOT}/bin/{point.name}"
        try:
            with open(path) as file:
                first = file.readline()
        except OSError as error:
            first = str(error)
        found[point.name] = [first, os.access(path, os.X_OK), tried(point.load)]
    return found


def modules() -> dict:
    """Import each module that is at the top, and each package of a namespace."""
    names = set(metadata.packages_distributions())
    names |= {one.name for one in pkgutil.iter_modules([sysconfig.get_path("purelib")])}
    names = {name for name in names if name.isidentifier() and not name.startswith("__")}
    for name in list(names):
        path = os.path.join(sysconfig.get_path("purelib"), name)
        if os.path.isdir(path) and not os.path.exists(os.path.join(path, "__init__.py")):
            names |= {f"{name}.{one.name}" for one in pkgutil.iter_modules([path])}
    return {name: tried(lambda name=name: __import__(name)) for name in sorted(names)}


def main() -> None:
    answer = {
        "files": files(),
        "encodings": encodings(),
        "records": records(),
        "packages": sorted(f"{one.metadata['Name']}=={one.version}" for one in metadata.distributions()),
        "requested": sorted(
            one.metadata["Name"] for one in metadata.distributions() if one.read_text("REQUESTED") is not None
        ),
        "scripts": scripts(),
        "modules": modules(),
        "environment": {name: value for name, value in os.environ.items() if name != "HOSTNAME"},
        "process": [os.getuid(), os.getgid(), os.getgroups(), os.getcwd(), sys.executable, sys.prefix, sys.path[1:]],
        "folders": {path: [oct(os.stat(path).st_mode), os.stat(path).st_uid] for path in (ROOT, "/workspace", "/opt")},
    }
    json.dump(answer, sys.stdout)


main()
