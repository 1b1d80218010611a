"""A base's folders, links and accounts, listed by its own Python in a container.

What an engine puts into each container is not the base's, and which of it was there before cannot be seen any more: the
folders where it mounts ``/dev``, ``/proc`` and ``/sys``, and the four files below ``/etc`` that it writes, two of which
are links in some bases. ``base_part`` leaves them out whoever was asked, so a container and the registry's layers say
the same. Of links, the mode and of the root its own entry mean nothing to anyone.

One difference stays: a folder that no layer names, but whose content one does, is only known where a container was
asked. It has an engine's usual attributes there, and those are taken for it where it is not known.
"""

from __future__ import annotations

import json
from dataclasses import replace

from envlock.errors import WorldError
from envlock.formats.base_files import BaseFiles, from_json
from envlock.ports import Container

_MOUNTED = ("dev", "proc", "sys")
_WRITTEN = (".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf")
_LINK_MODE = 0o777  # as the kernel has it for every link (symlink(7))

# Python 3.8 on. Arguments: the image's volumes. They are other file systems, and hold what the image has there; all
# other mounts are the engine's own.
PROGRAM = r"""
import json, os, sys
volumes = set(sys.argv[1:])
entries, left = {}, [("", os.lstat("/").st_dev)]
while left:
    folder, device = left.pop()
    with os.scandir("/" + folder) as found:
        for entry in found:
            link = entry.is_symlink()
            if not link and not entry.is_dir(follow_symlinks=False):
                continue
            path = folder + "/" + entry.name if folder else entry.name
            seen = entry.stat(follow_symlinks=False)
            target = os.readlink("/" + path) if link else None
            if not link:
                if path in ("dev", "proc", "sys") or (seen.st_dev != device and path not in volumes):
                    continue
                left.append((path, seen.st_dev))
            entries[path] = [seen.st_mode & 0o7777, seen.st_uid, seen.st_gid, target]
def content(path):
    if os.path.islink(path) or not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        return file.read().decode("latin-1")
print(json.dumps({"entries": entries, "passwd": content("/etc/passwd"), "group": content("/etc/group")}))
"""


def listed(container: Container, *, python: str, config: bytes) -> BaseFiles:
    """Return what is in a container in which nothing was changed yet; ``config`` is its image's configuration.

    Raises ``WorldError``, ``EngineError``.
    """
    volumes = [str(path).strip("/") for path in (json.loads(config).get("config") or {}).get("Volumes") or ()]
    done = container.run([python, "-I", "-S", "-B", "-X", "utf8", "-c", PROGRAM, *volumes], workdir="/")
    if done.exit_code:
        lines = (done.stderr or done.stdout).decode(errors="replace").splitlines()
        raise WorldError("the base's Python does not say what is in the base", details=lines[-10:])
    try:
        return base_part(from_json(json.loads(done.stdout)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorldError("the base's Python answers something else than was asked") from error


def base_part(files: BaseFiles) -> BaseFiles:
    """Return what is the base's own, in one form."""
    entries = {
        path: found if found.target is None else replace(found, mode=_LINK_MODE)
        for path, found in sorted(files.entries.items())
        if path and path not in _WRITTEN and path.partition("/")[0] not in _MOUNTED
    }
    return replace(files, entries=entries)
