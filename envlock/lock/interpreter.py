"""What the base's interpreter says of itself: the target that every wheel is chosen for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from envlock.errors import InputError
from envlock.model.lock import BasePython
from envlock.ports import Completed, Container

FOLDER = "/tmp/.envlock"  # noqa: S108 - in a container of ours that nobody else is in
_CANNOT_START = (126, 127)

# ``packaging`` goes into the container with it, so that the tags are those of the target's own interpreter and libc.
_SCRIPT = """
import json, os, platform, sys
sys.dont_write_bytecode = True
answer = {"version": platform.python_version(), "executable": sys.executable, "prefix": sys.prefix,
          "implementation": sys.implementation.name}
if sys.version_info >= (3, 8):
    sys.path.insert(0, sys.argv[1])
    from packaging import markers, tags, _musllinux
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        musl = _musllinux._get_musl_version(sys.executable)
        libc = "musl %d.%d" % musl if musl else ""
    answer.update(libc=libc, markers=dict(markers.default_environment()), tags=[str(tag) for tag in tags.sys_tags()])
print(json.dumps(answer))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A base's Python, and the wheel tags that it takes, best first (PEP 425)."""

    python: BasePython
    tags: tuple[str, ...]


def probe(container: Container, *, wanted: str = "") -> Interpreter:
    """Ask a container's Python what it is; ``wanted`` ("3.11") is looked for by that name first.

    Raises ``InputError`` where there is no Python 3.8 or newer.
    """
    container.put({f"{FOLDER}/probe/packaging/{name}": content for name, content in _packaging().items()})
    minor = ".".join(wanted.split(".")[:2])
    for name in ([f"python{minor}"] if minor else []) + ["python3", "python"]:
        done = container.run([name, "-I", "-c", _SCRIPT, f"{FOLDER}/probe"], user="root")
        if done.exit_code not in _CANNOT_START:
            return _read(done)
    raise InputError(
        "the base has no Python",
        hint="choose a base with Python 3, or make one: Dockerfile.base shows how",
    )


def _packaging() -> dict[str, bytes]:
    folder = resources.files("packaging")
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.name.endswith(".py")}


def _read(done: Completed) -> Interpreter:
    if done.exit_code:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-12:]
        raise InputError("the base's Python does not work", details=last, hint="start it by hand in a container to see")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "tags" not in answer:
        raise InputError(f"the base has Python {answer['version']}, and envlock needs 3.8 or newer there")
    # the kernel belongs to the machine that runs a container, not to the target: a lock must not depend on it
    markers = answer["markers"] | {"platform_release": "", "platform_version": ""}
    python = BasePython(
        version=answer["version"],
        executable=answer["executable"],
        prefix=answer["prefix"],
        implementation=answer["implementation"],
        libc=answer["libc"],
        markers=dict(sorted(markers.items())),
    )
    return Interpreter(python=python, tags=tuple(answer["tags"]))
