"""A spec together with the files that it names: everything that a lock answers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from envlock.errors import Fault
from envlock.formats import requirements
from envlock.formats.requirements import Collector
from envlock.formats.spec_yaml import FILE_NAME, parse_placed
from envlock.formats.text import decode, quote
from envlock.model.spec import Requested, Spec

_MAX_KEY = 1024 * 1024  # bytes
_ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_SECRET = b"-----BEGIN PGP PRIVATE KEY BLOCK-----"
_PACKET = 0x80  # set in the first byte of every OpenPGP packet (RFC 9580 §4.2)

Places = Mapping[str, tuple[int, int]]
Read = Callable[[str], bytes]


def read_requested(data: bytes, *, read: Read, file: str = FILE_NAME) -> Requested:
    """Return what the bytes of a spec and the files that it names ask for; raises ``SpecError`` with every fault.

    ``read`` gets a path relative to the spec, and returns a file's bytes or raises ``OSError``.
    """
    placed = parse_placed(data, file=file)
    return load_requested(placed.spec, read=read, file=file, places=placed.places)


def load_requested(spec: Spec, *, read: Read, file: str = FILE_NAME, places: Places | None = None) -> Requested:
    """Return what a spec and the files that it names ask for; raises ``SpecError`` with every fault.

    ``places`` says where in ``file`` each value stands, for the messages.
    """
    places = places or {}
    collector = Collector(read=lambda path: decode(read(path), file=path, limit=requirements.MAX_SIZE))
    for requirement in spec.pip.packages:
        collector.add(requirement)
    named: tuple[tuple[Literal["requirements", "constraints"], tuple[str, ...]], ...] = (
        ("requirements", spec.pip.requirements),
        ("constraints", spec.pip.constraints),
    )
    for role, paths in named:
        for number, path in enumerate(paths):
            place = _place(file, places, f"pip.{role}[{number}]")
            collector.file(path, role=role, named_by=place)
    keys = {
        item.name: _key(read, item.key, _place(file, places, f"apt.repositories.{item.name}.key"), collector.faults)
        for item in spec.apt.repositories
    }
    found = collector.result()
    return Requested(
        spec=spec, requirements=found.requirements, constraints=found.constraints, keys=keys, hashes=found.hashes
    )


def _key(read: Read, path: str, place: Fault, faults: list[Fault]) -> bytes:
    """Return a key file's bytes, or report why it is none."""
    try:
        data = read(path)
    except OSError as error:
        _report(faults, place, f"{quote(path)} cannot be read: {(error.strerror or str(error)).lower()}")
        return b""
    if _SECRET in data:
        _report(faults, place, f"{quote(path)} holds a private key", "gpg --export KEY writes the public one")
    elif len(data) > _MAX_KEY or not (_ARMOUR in data or (data and data[0] & _PACKET)):
        _report(faults, place, f"{quote(path)} is not an OpenPGP key", "gpg --export KEY writes one")
    return data


def _report(faults: list[Fault], place: Fault, message: str, hint: str = "") -> None:
    faults.append(Fault(file=place.file, line=place.line, column=place.column, message=message, hint=hint))


def _place(file: str, places: Places, path: str) -> Fault:
    line, column = places.get(path, (0, 0))
    return Fault(file=file, line=line, column=column, message="")
