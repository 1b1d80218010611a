"""The user's files: their options, reading the spec and the lock, writing results whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from envlock.errors import InputError, StorageError, UsageError
from envlock.formats.lock_json import load_lock
from envlock.formats.requested import read_requested as parse_requested
from envlock.model.lock import Lock
from envlock.model.spec import Requested

SPEC = "envlock.yaml"
LOCK = "envlock.lock"
SpecOption = Annotated[Path, typer.Option("--spec", "-f", metavar="FILE", help="The spec.")]
LockOption = Annotated[Path, typer.Option("--lock", "-l", metavar="FILE", help="The lock.")]
_MAX_BYTES = 64 * 1024 * 1024  # far above any real spec or lock; keeps a wrong path from filling memory


def read_requested(spec: Path) -> Requested:
    """Read a spec and every file that it names; raises ``SpecError`` with all faults, or ``UsageError``."""
    content = _read(spec, hint="write one with 'envlock init', or name it with --spec")
    folder = spec.parent
    return parse_requested(content, read=lambda name: (folder / name).read_bytes(), file=str(spec))


def read_lock(path: Path) -> tuple[Lock, bytes]:
    """Read a lock file; raises ``LockError`` for a broken one, ``UsageError`` where there is none."""
    content = _read(path, hint="make one with 'envlock lock', or name it with --lock")
    return load_lock(content, file=str(path)), content


def write_whole(path: Path, text: str | bytes) -> None:
    """Write a file under a temporary name and then rename it, so that nobody ever sees half of it.

    Raises ``StorageError`` (disk full, no permission); what stood there before is then untouched.
    """
    content = text.encode() if isinstance(text, str) else text
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint="nothing was changed") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    # the only portable way to read it is to set it
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _read(path: Path, *, hint: str) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES // 2**20} MiB: not a file of envlock's")
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"there is no {path}", hint=hint) from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error


def read_lock_if_any(path: Path) -> Lock | None:
    """Return the lock so far, or None; a broken one is an error, not a reason to start over."""
    return read_lock(path)[0] if path.exists() else None
