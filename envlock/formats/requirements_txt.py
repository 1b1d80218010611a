"""The lock's packages in the formats of their own tools: pip's requirements file and a list for apt."""

from __future__ import annotations

from envlock.model.lock import Deb, Lock, Wheel

_SPEC = "envlock.yaml"


def requirements_txt(lock: Lock) -> str:
    """Return pip's requirements file (pip documentation, hash-checking mode): one file and one hash a package."""
    head = [
        f"# {lock.name}, locked by envlock for Python {lock.base.python.version} on {lock.platform}",
        "# pip install --no-deps --require-hashes --requirement requirements.txt",
    ]
    lines = [line for wheel in sorted(lock.wheels, key=lambda wheel: wheel.name) for line in _requirement(wheel)]
    return "\n".join(head + lines) + "\n"


def _requirement(wheel: Wheel) -> list[str]:
    via = ([_SPEC] if wheel.requested else []) + sorted(wheel.required_by)
    source = f" (from index {wheel.source})" if wheel.source != "default" else ""
    lines = [f"{wheel.name}=={wheel.version} \\", f"    --hash=sha256:{wheel.sha256}"]
    if via or source:
        lines.append(f"    # via {', '.join(via) or _SPEC}{source}")
    return lines


def apt_txt(lock: Lock) -> str:
    """Return what is installed on top of the base, as ``name:architecture=version`` (apt-get(8)), sorted."""
    return "".join(sorted(f"{deb.name}:{deb.architecture}={deb.version}\n" for deb in lock.debs))


def sha256sums(debs: tuple[Deb, ...]) -> str:
    """Return the .debs' hashes in the form that ``sha256sum --check`` (coreutils) reads, file names alone."""
    return "".join(sorted(f"{deb.sha256}  {deb.filename}\n" for deb in debs))
