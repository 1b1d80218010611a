"""What git says of a folder: the commit, its name, where it comes from, and whether the files are really in it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_TIMEOUT = 60  # seconds
_SCP_LIKE = re.compile(r"(?:[^@/:\s]+@)?(?P<host>[A-Za-z0-9.-]+):(?P<path>[^/\\].*)")  # git-fetch(1), GIT URLS


@dataclass(frozen=True, kw_only=True, slots=True)
class GitFacts:
    """What is known of a commit; nothing where there is no repository."""

    revision: str | None = None  # full commit ID
    dirty: bool = False
    version: str | None = None  # git describe, with "-dirty"
    source: str | None = None  # URL without credentials
    committed: int = 0  # seconds since the epoch


def git_facts(root: Path, files: Sequence[str], *, warn: Callable[[str], None]) -> GitFacts | None:
    """Ask git about ``root``; None where there is no git, no repository or no commit yet.

    Dirty means: a file of the repository differs from the commit, or one of ``files`` (relative to ``root``) is not in
    it. A repository that git refuses to read, as it belongs to somebody else, is said through ``warn``.
    """
    head = _git(root, "show", "--no-patch", "--no-show-signature", "--format=%H %ct", "HEAD", refused=warn)
    if not head:
        return None
    revision, _, committed = head.partition(" ")
    questions = (
        ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none"),
        ("ls-files", "-z", "--", "."),
        ("describe", "--tags", "--always"),
        ("config", "--get", "remote.origin.url"),
    )
    with ThreadPoolExecutor(len(questions)) as pool:
        changed, tracked, described, url = pool.map(lambda question: _git(root, *question), questions)
    known = set((tracked or "").split("\0"))
    dirty = bool(changed) or any(path not in known for path in files)
    return GitFacts(
        revision=revision,
        dirty=dirty,
        version=described and described + ("-dirty" if dirty else ""),
        source=public_url(url or ""),
        committed=int(committed),
    )


def public_url(url: str) -> str | None:
    """Return a remote's URL without credentials; None for a path of this machine."""
    if "://" not in url:
        found = _SCP_LIKE.fullmatch(url)
        return f"ssh://{found['host']}/{found['path']}" if found else None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.scheme not in {"http", "https", "ssh", "git"}:
        return None
    place = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, place + (f":{port}" if port else ""), parts.path, "", ""))


def _git(root: Path, *arguments: str, refused: Callable[[str], None] | None = None) -> str | None:
    # No program that the repository's own configuration names is started.
    settings = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
    command = ["git", *settings, "--no-optional-locks", "-C", str(root)]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, check=False, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        if refused and b"dubious ownership" in done.stderr:
            refused(
                f"git does not read the repository in {root}, as it belongs to another user: the image will name no "
                f"commit (git config --global --add safe.directory {root})"
            )
        return None
    return done.stdout.decode(errors="surrogateescape").strip("\n")
