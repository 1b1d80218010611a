"""The program that installs .debs in a container of the base and hands out what that changed, as a tar on its stdout.

It is not imported by envlock but handed to ``python -I -S -B -c`` in the container: Python 3.8, standard library only,
all of it imported before the first package is touched (Python itself may be among them).

It says ``ready`` on stderr, waits for ``go`` on stdin while the .debs are put into its folder, and ends when stdin
does: nothing goes on for an envlock that is gone. What changed is found by looking at every file before and after
(mode, owner, size, times), which is the same with every engine and storage driver; an engine's own layers are not.
Paths are sorted; a removed path is a whiteout and a new name of a file that is there already a hard link (OCI image
spec, layers). Only if everything went well is the tar complete.
"""

# Paths are bytes here, which pathlib does not know; and what is printed is for the host.
# ruff: noqa: PTH101, PTH103, PTH107, PTH113, PTH115, PTH118, PTH119, PTH120, PTH123, T201

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from typing import IO, NoReturn, Tuple  # noqa: UP035 - Python 3.8 evaluates the alias below

Status = Tuple[int, int, int, int, int, int, int, int, int]  # noqa: UP006 - mode, uid, gid, size, mtime, ctime, device, inode, links

CAPABILITY = "security.capability"  # the one extended attribute that an image keeps
VOLATILE = (b"tmp/", b"var/tmp/")
REWRITTEN = (b"etc/", b"var/")  # where scripts write files anew with what was in them before
LARGEST_HASHED = 1 << 20  # bytes
SERVICES = "/usr/sbin/policy-rc.d"  # says whether services may start (invoke-rc.d(8)); here they may not
NO_SERVICES = b"#!/bin/sh\n# envlock-install\nexit 101\n"


def mounts() -> set[bytes]:
    """Return the mount points: the engine's own files, and the kernel's."""
    found = set()
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            point = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match.group(1), 8)]), line.split(b" ")[4])
            found.add(point.strip(b"/"))
    return found - {b""}


def look(root: bytes, skipped: set[bytes]) -> dict[bytes, Status]:
    """Return path → what the system says of it, for everything below a folder."""
    found: dict[bytes, Status] = {}
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                path = folder + b"/" + entry.name if folder else entry.name
                if path in skipped or path.startswith(VOLATILE):
                    continue
                status = entry.stat(follow_symlinks=False)
                found[path] = (
                    status.st_mode,
                    status.st_uid,
                    status.st_gid,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                    status.st_dev,
                    status.st_ino,
                    status.st_nlink,
                )
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(path)
    return found


def same_place(before: Status, after: Status) -> bool:
    """Return whether nothing was done to a path. Device, inode and links change by themselves (copy-up)."""
    if stat.S_ISDIR(before[0]) and stat.S_ISDIR(after[0]):
        return before[:3] == after[:3]  # its times say that its entries changed
    return before[:6] == after[:6]


def hashes(root: bytes, files: Mapping[bytes, Status]) -> dict[bytes, bytes]:
    """Return path → sha256 of the small files that may be written anew."""
    found = {}
    for path, status in files.items():
        if stat.S_ISREG(status[0]) and status[3] <= LARGEST_HASHED and path.startswith(REWRITTEN):
            found[path] = digest(root, path)
    return found


def digest(root: bytes, path: bytes) -> bytes:
    """Return the sha256 of a small file."""
    with open(os.path.join(root, path), "rb") as file:
        return hashlib.sha256(file.read()).digest()


def changes(
    root: bytes, before: Mapping[bytes, Status], after: Mapping[bytes, Status], hashed: Mapping[bytes, bytes]
) -> tuple[list[bytes], list[bytes]]:
    """Return the paths that a layer needs (with the folders that lead there), and those that are gone, both sorted."""
    needed = set()
    for path, status in after.items():
        old = before.get(path)
        if old is not None and same_place(old, status):
            continue
        if old is not None and old[:4] == status[:4] and path in hashed and hashed[path] == digest(root, path):
            continue
        needed.add(path)
    gone = set()
    for path in before:
        parent = path.rpartition(b"/")[0]
        if path not in after and (not parent or (parent in after and stat.S_ISDIR(after[parent][0]))):
            gone.add(path)
    for path in list(needed | gone):
        parts = path.split(b"/")
        needed.update(b"/".join(parts[:depth]) for depth in range(1, len(parts)))
    return sorted(needed), sorted(gone)


def pack(
    root: bytes,
    before: Mapping[bytes, Status],
    after: Mapping[bytes, Status],
    hashed: Mapping[bytes, bytes],
    target: IO[bytes],
) -> None:
    """Write the tar of everything that changed."""
    needed, gone = changes(root, before, after, hashed)
    whiteouts = {os.path.join(os.path.dirname(path), b".wh." + os.path.basename(path)) for path in gone}
    twins: dict[tuple[int, ...], str] = {}
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for path in sorted(whiteouts.union(needed)):
            entry = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
            if path in whiteouts:
                archive.addfile(entry)
            else:
                if os.path.basename(path).startswith(b".wh."):
                    raise SystemExit("a layer cannot hold a file with this name: " + entry.name)
                add(archive, os.path.join(root, path), entry, after[path], twins)


def add(
    archive: tarfile.TarFile, place: bytes, entry: tarfile.TarInfo, status: Status, twins: dict[tuple[int, ...], str]
) -> None:
    """Write one entry; ``twins`` has the first name of each file that has several."""
    mode, entry.uid, entry.gid = status[0], status[1], status[2]
    entry.mode, entry.mtime = stat.S_IMODE(mode), status[4] // 10**9
    if stat.S_ISDIR(mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(mode):
        entry.type = tarfile.SYMTYPE
        entry.linkname = os.readlink(place).decode("utf-8", "surrogateescape")
    elif stat.S_ISFIFO(mode):
        entry.type = tarfile.FIFOTYPE
    elif not stat.S_ISREG(mode):
        if entry.name.startswith("run/"):
            return  # a socket of a program that ran during the installation
        raise SystemExit("a layer cannot hold sockets and devices: " + entry.name)
    elif status[8] > 1 and status[6:8] in twins:
        entry.type, entry.linkname = tarfile.LNKTYPE, twins[status[6:8]]
        # Engines set the owner of a file again for each of its names, and the kernel then takes its capabilities away.
        entry.pax_headers = capability(place)
    else:
        if status[8] > 1:
            twins[status[6:8]] = entry.name
        add_file(archive, place, entry, status[3])
        return
    archive.addfile(entry)


def add_file(archive: tarfile.TarFile, path: bytes, entry: tarfile.TarInfo, size: int) -> None:
    """Write a regular file."""
    entry.size = size
    entry.pax_headers = capability(path)
    with open(path, "rb") as content:
        archive.addfile(entry, content)  # too short a file is an error


def capability(path: bytes) -> dict[str, str]:
    """Return the pax record of a file's capabilities."""
    if CAPABILITY not in os.listxattr(path):
        return {}
    return {"SCHILY.xattr." + CAPABILITY: os.getxattr(path, CAPABILITY).decode("utf-8", "surrogateescape")}


def guard() -> NoReturn:
    """End with envlock: nothing reads what a container would go on to do."""
    while os.read(0, 1):
        pass
    os._exit(1)


def install(argv: Sequence[str]) -> int:
    """Run the installer with its output on stderr; services are kept from starting."""
    held = not os.path.lexists(SERVICES)
    if held:
        with open(SERVICES, "wb") as file:
            file.write(NO_SERVICES)
        os.chmod(SERVICES, 0o755)  # noqa: S103
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=False)
    if held and os.path.isfile(SERVICES):
        with open(SERVICES, "rb") as file:
            ours = file.read() == NO_SERVICES
        if ours:
            os.remove(SERVICES)
    return done.returncode


def settle() -> None:
    """End what scripts left running: we are the container's first process."""
    if os.getpid() == 1:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def main() -> None:
    """Do all of it."""
    task = json.loads(sys.argv[1])  # {"argv": […], "check": […], "folders": […]}
    os.umask(0o022)
    print("ready", file=sys.stderr, flush=True)
    if sys.stdin.buffer.readline() != b"go\n":
        raise SystemExit(1)
    threading.Thread(target=guard, daemon=True).start()
    skipped = mounts()
    before = look(b"/", skipped)
    hashed = hashes(b"/", before)
    for folder in task["folders"]:
        os.makedirs(folder, exist_ok=True)
    code = install(task["argv"])
    if code:
        raise SystemExit(f"the installation ended with exit code {code}")
    wrong = subprocess.run(task["check"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False).stdout
    if wrong.strip():
        raise SystemExit("after the installation:\n" + wrong.decode("utf-8", "replace"))
    settle()
    pack(b"/", before, look(b"/", skipped), hashed, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    print("complete", file=sys.stderr, flush=True)
    os._exit(0)


if __name__ == "__main__":
    # Not the usual way out: it would wait for the thread that reads stdin.
    try:
        main()
    except SystemExit as end:
        print(end, file=sys.stderr, flush=True)
    except BaseException:  # noqa: BLE001 - all of it is told
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)
