"""The lock file: canonical JSON, UTF-8, sorted members, two spaces, LF, a final newline.

``fingerprint`` names the environment: it is over a hand-written, versioned form, so that a new member in the lock
never changes what an old lock is called. ``integrity`` is over the file's own content and tells a lock that was
edited by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from envlock.errors import LockError
from envlock.formats.names import PLATFORM, REPOSITORY, TAG, USER
from envlock.formats.structure import StructureError, from_plain, to_plain
from envlock.model.lock import Base, Deb, Lock, Wheel
from envlock.model.spec import ImageOptions

FORMAT = 1
_RELOCK = "take the file from version control, or remove it and run 'envlock lock'"
_CONFLICT = re.compile(rb"^(?:<{7}|={7}|>{7})(?: |\r?$)", re.MULTILINE)  # as git writes them


def dump_lock(lock: Lock) -> str:
    """Return the lock file's text; the same lock always gives the same bytes."""
    body = to_plain(lock)
    head = {"format": FORMAT, "fingerprint": fingerprint(lock), "integrity": _integrity(body)}
    return _canonical({"envlock": head, **body}, indent=2) + "\n"


def load_lock(text: str | bytes, *, file: str = "envlock.lock") -> Lock:
    """Read a lock file; raises ``LockError`` for one that is truncated, edited, or of an unknown format."""
    if _CONFLICT.search(text if isinstance(text, bytes) else text.encode(errors="replace")):
        raise LockError(
            f"{file}: has the marks of a merge conflict in it", hint="take either side whole, then run 'envlock lock'"
        )
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise LockError(f"{file}: not UTF-8 text", hint=_RELOCK) from error
    except RecursionError as error:
        raise LockError(f"{file}: nested too deeply to be a lock", hint=_RELOCK) from error
    except ValueError as error:
        where = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise LockError(f"{file}{where}: not a complete lock file: {what}", hint=_RELOCK) from error
    if not isinstance(document, dict) or not isinstance(document.get("envlock"), dict):
        raise LockError(f"{file}: not an envlock lock file: member 'envlock' is missing", hint=_RELOCK)
    head = document.pop("envlock")
    _check_format(head.get("format"), file)
    try:
        lock = from_plain(Lock, document)
        _check_values(lock)
    except StructureError as error:
        raise LockError(f"{file}: {error}", hint=_RELOCK) from error
    if head.get("integrity") != _integrity(to_plain(lock)) or head.get("fingerprint") != fingerprint(lock):
        raise LockError(
            f"{file}: the lock was edited by hand: its content is not what its integrity hash says", hint=_RELOCK
        )
    return lock


def fingerprint(lock: Lock) -> str:
    """Return the environment's name: the SHA-256, in hex, of form 1 of what the image is made from.

    Form 1 is lines of JSON lists, each starting with the kind of thing, in the order below; lists that have no
    order of their own are sorted. Changing it means adding form 2 and keeping this one for old locks.
    """
    lines = "".join(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n" for line in _form_1(lock))
    return hashlib.sha256(lines.encode()).hexdigest()


def _form_1(lock: Lock) -> Iterator[list[Any]]:
    yield ["envlock-fingerprint", 1]
    yield ["name", lock.name]
    yield ["platform", lock.platform]
    yield ["base", lock.base.image_id, lock.base.manifest_digest]
    yield ["python", lock.base.python.executable, lock.base.python.version]
    yield from sorted(["deb", deb.name, deb.architecture, deb.version, deb.sha256] for deb in lock.debs)
    yield from sorted(["wheel", wheel.name, wheel.version, wheel.filename, wheel.sha256] for wheel in lock.wheels)
    yield from sorted(["env", name, value] for name, value in lock.env.items())
    yield ["seeds", lock.seeds.seed, lock.seeds.data_seed, lock.seeds.cudnn_deterministic]
    yield ["user", lock.image.user, lock.image.uid]
    yield ["workdir", lock.image.workdir]
    yield ["entrypoint", *lock.image.entrypoint]
    yield from sorted(["label", name, value] for name, value in lock.image.labels.items())
    yield ["project", list(lock.project.include), list(lock.project.ignore)]


def _integrity(body: Any) -> str:
    return "sha256:" + hashlib.sha256(_canonical(body).encode()).hexdigest()


def _canonical(document: Any, *, indent: int | None = None) -> str:
    return json.dumps(document, ensure_ascii=False, sort_keys=True, indent=indent, allow_nan=False)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"member {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return members


def _check_format(found: object, file: str) -> None:
    if found == FORMAT and not isinstance(found, bool):
        return
    if isinstance(found, int) and found > FORMAT:
        raise LockError(
            f"{file}: lock format {found} is newer than this envlock, which reads format {FORMAT}",
            hint="upgrade envlock, or remove the file and run 'envlock lock'",
        )
    raise LockError(f"{file}: unknown lock format {found!r}", hint=_RELOCK)


# What a lock names ends up in file names, Dockerfiles and program arguments. The grammars are those of PEP 427 and
# PEP 440 (with the characters that file names may hold), and Debian policy §5.6.1, §5.6.8 and §5.6.12.
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!~%-]*")
_POOL = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+~:%-]*/)*[A-Za-z0-9][A-Za-z0-9._+~:%-]*\.deb")
_PACKAGE = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")
_DEB_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_DEB_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:-]*")
_DEB_ARCHITECTURE = re.compile(r"[a-z0-9-]+")
_ABSOLUTE = re.compile(r"/[^\x00-\x1f\x7f]*")
_PLATFORM = re.compile(PLATFORM.pattern)
_REPOSITORY = re.compile(REPOSITORY.pattern)
_TAG = re.compile(TAG.pattern)
_USER = re.compile(USER.pattern)
_LARGEST_UID = 2**31 - 1


def _check_values(lock: Lock) -> None:
    _match(_PLATFORM, lock.platform, "platform")
    _check_base(lock.base)
    _check_image(lock.image)
    for number, deb in enumerate(lock.debs):
        _check_deb(deb, f"debs[{number}]")
        _among({source.name for source in lock.apt_sources}, deb.source, f"debs[{number}].source")
    for number, wheel in enumerate(lock.wheels):
        _check_wheel(wheel, f"wheels[{number}]")
        _among({source.name for source in lock.python_sources}, wheel.source, f"wheels[{number}].source")
    _check_wheel(lock.installer, "installer")


def _check_base(base: Base) -> None:
    _match(_DIGEST, base.image_id, "base.image_id")
    for digest in (base.manifest_digest, base.index_digest):
        if digest is not None:
            _match(_DIGEST, digest, "base.manifest_digest")
    if base.manifest_digest is not None:
        _match(_REPOSITORY, base.repository, "base.repository")
    _match(_VERSION, base.python.version, "base.python.version")
    _match(_ABSOLUTE, base.python.executable, "base.python.executable")


def _check_image(image: ImageOptions) -> None:
    _match(_REPOSITORY, image.repository, "image.repository")
    for number, tag in enumerate(image.tags):
        _match(_TAG, tag, f"image.tags[{number}]")
    _match(_USER, image.user, "image.user")
    if not 0 <= image.uid <= _LARGEST_UID:
        raise StructureError(f"{image.uid} is not allowed in 'image.uid'")
    _match(_ABSOLUTE, image.workdir, "image.workdir")


def _check_deb(deb: Deb, path: str) -> None:
    _match(_DEB_NAME, deb.name, f"{path}.name")
    _match(_DEB_VERSION, deb.version, f"{path}.version")
    _match(_DEB_ARCHITECTURE, deb.architecture, f"{path}.architecture")
    _match(_POOL, deb.path, f"{path}.path")
    _match(_SHA256, deb.sha256, f"{path}.sha256")
    _check_size(deb.size, f"{path}.size")


def _check_wheel(wheel: Wheel, path: str) -> None:
    _match(_PACKAGE, wheel.name, f"{path}.name")
    _match(_VERSION, wheel.version, f"{path}.version")
    _match(_FILE, wheel.filename, f"{path}.filename")
    _match(_SHA256, wheel.sha256, f"{path}.sha256")
    _check_size(wheel.size, f"{path}.size")
    if wheel.built_from is not None:
        _match(_FILE, wheel.built_from.filename, f"{path}.built_from.filename")
        _match(_SHA256, wheel.built_from.sha256, f"{path}.built_from.sha256")
        for number, tool in enumerate(wheel.built_from.build_requires):
            _check_wheel(tool, f"{path}.built_from.build_requires[{number}]")


def _match(grammar: re.Pattern[str], value: str, path: str) -> None:
    if not grammar.fullmatch(value):
        raise StructureError(f"{value!r} is not allowed in {path!r}")


def _among(known: Collection[str], value: str, path: str) -> None:
    if value not in known:
        raise StructureError(f"{value!r} is not allowed in {path!r}")


def _check_size(size: int, path: str) -> None:
    if size < 0:
        raise StructureError(f"{size} is not allowed in {path!r}")
