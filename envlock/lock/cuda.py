"""CUDA: which version the base, the apt packages and the wheels bring, and whether they go together.

The rules. One environment has one CUDA major version:

- Wheels of two majors in one environment are an error: both load libraries of the same names (cuDNN, NCCL), and
  whichever is first wins.
- The base's or apt's CUDA and the wheels' of different majors are an error for the same reason, even though wheels
  bring their own runtime: cuDNN and NCCL have one file name for all majors.
- Minor versions may differ, as NVIDIA guarantees that they run together ("minor version compatibility").
- What comes with a driver (``libcuda1``, ``cuda-compat-12-4``) says nothing: it is the host's.
- The spec's ``cuda`` is held against the version that programs will use: to the digit that it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from envlock.errors import Unresolvable
from envlock.formats.cuda import (
    deb_version,
    environment_version,
    min_driver,
    minor_version,
    version_json,
    version_txt,
    wheel_version,
    without_cuda,
)
from envlock.formats.debian import DebianFormatError, installed_packages
from envlock.model.lock import Cuda, CudaEvidence, Deb, Wheel
from envlock.ports import Container

_FOLDERS = "/usr/local"
_LEAST = 2  # parts of a version that says its minor


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    evidence: CudaEvidence
    weight: int  # whose minor version counts: the largest

    @property
    def major(self) -> int:
        return int(self.evidence.version.partition(".")[0])

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.evidence.version.split("."))


# --- the base ---------------------------------------------------------------------------------------------------------


def base_cuda(container: Container) -> str | None:
    """Return the CUDA version inside a base ("11.8.0", "12.4"), or None.

    The toolkit's own file says it best (that of /usr/local/cuda where there are several), then the installed runtime's
    package, then the environment that NVIDIA's images set.
    """
    return _from_files(container) or _from_packages(container) or _from_environment(container)


def _from_files(container: Container) -> str | None:
    listed = container.run(["find", _FOLDERS, "-maxdepth", "1", "-name", "cuda*"]).stdout.decode("utf-8", "replace")
    names = [line for line in listed.splitlines() if re.fullmatch(r"/usr/local/cuda(-[0-9.]+)?", line)]
    for folder in sorted(names, key=lambda name: (name != "/usr/local/cuda", name)):
        content = container.read(f"{folder}/version.json")
        version = version_json(content) if content is not None else None
        if version is None:
            content = container.read(f"{folder}/version.txt")
            version = version_txt(content) if content is not None else None
        if version is not None:
            return version
    return None


def _from_packages(container: Container) -> str | None:
    try:
        packages = installed_packages((container.read("/var/lib/dpkg/status") or b"").decode("utf-8", "replace"))
    except DebianFormatError:
        return None  # whoever needs dpkg's status will say so
    found = [
        (package.name.startswith(("libcudart", "cuda-cudart")), version)
        for package in packages
        if (version := deb_version(package.name, package.version)) is not None
    ]
    return max(found, key=lambda item: (item[0], _numbers(item[1])))[1] if found else None


def _from_environment(container: Container) -> str | None:
    lines = container.run(["env"]).stdout.decode("utf-8", "replace").splitlines()
    return environment_version(dict(line.split("=", 1) for line in lines if "=" in line))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


# --- the whole environment --------------------------------------------------------------------------------------------


def check_cuda(*, base: str | None, debs: Sequence[Deb], wheels: Sequence[Wheel], wanted: str | None) -> Cuda | None:
    """Return the CUDA of an environment, or None for one without; raises ``Unresolvable`` where its parts contradict.

    ``base`` is what ``base_cuda`` found and ``wanted`` what the spec says ("11", "11.8").
    """
    seen = [*_seen_in_base(base), *_seen_in_debs(debs), *_seen_in_wheels(wheels)]
    if not seen:
        if wanted is not None:
            raise _nothing_found(wanted, wheels)
        return None
    _check_majors(seen)
    version = _version(seen)
    if wanted is not None:
        _check_wanted(wanted, version, seen)
    return Cuda(
        version=version,
        min_driver=min_driver(version),
        evidence=tuple(item.evidence for item in seen),
    )


def _seen_in_base(base: str | None) -> Iterator[_Seen]:
    if base is not None:
        yield _Seen(evidence=CudaEvidence(where="base", version=base), weight=1)


def _seen_in_debs(debs: Iterable[Deb]) -> Iterator[_Seen]:
    for deb in debs:
        version = deb_version(deb.name, deb.version)
        if version is not None:
            runtime = deb.name.startswith(("libcudart", "cuda-cudart"))
            yield _Seen(evidence=CudaEvidence(where=f"apt {deb.name}", version=version), weight=3 if runtime else 2)


def _seen_in_wheels(wheels: Iterable[Wheel]) -> Iterator[_Seen]:
    for wheel in wheels:
        version = wheel_version(wheel.name, wheel.version)
        if version is not None:
            weight = 6 if wheel.name == "torch" else 5 if wheel.name.startswith("nvidia-cuda-runtime") else 4
            yield _Seen(evidence=CudaEvidence(where=f"{wheel.name} {wheel.version}", version=version), weight=weight)


def _version(seen: Sequence[_Seen]) -> str:
    """Return the version that programs will use: where Python packages bring CUDA, theirs."""
    precise = [item for item in seen if len(item.numbers) >= _LEAST] or seen
    best = max(precise, key=lambda item: (item.weight, item.numbers))
    return minor_version(best.evidence.version)


def _check_majors(seen: Sequence[_Seen]) -> None:
    majors = sorted({item.major for item in seen})
    if len(majors) == 1:
        return
    from_wheels = {item.major for item in seen if item.weight > 3}  # noqa: PLR2004 - see _seen_in_wheels
    raise Unresolvable(
        f"two CUDA major versions in one environment: {' and '.join(map(str, majors))}",
        hint=(
            "choose wheels of one CUDA major: bind the packages to the index that has them (pip.indexes)"
            if len(from_wheels) > 1
            else "choose a base and apt packages of the wheels' CUDA major, or a base without CUDA (wheels bring it)"
        ),
        details=_in_words(seen),
    )


def _check_wanted(wanted: str, version: str, seen: Sequence[_Seen]) -> None:
    asked = wanted.split(".")[:_LEAST]
    found = version.split(".")
    if asked[: len(found)] != found[: len(asked)]:
        raise Unresolvable(
            f"the spec says CUDA {wanted}, and what it asks for brings CUDA {version}",
            hint=f'write cuda: "{version}" in the spec, or choose a base and wheels of CUDA {wanted}',
            details=_in_words(seen),
        )


def _nothing_found(wanted: str, wheels: Sequence[Wheel]) -> Unresolvable:
    without = [f"{wheel.name} {wheel.version} is built without CUDA" for wheel in wheels if without_cuda(wheel.version)]
    return Unresolvable(
        f"the spec says CUDA {wanted}, and neither the base nor any package brings CUDA",
        hint="choose a base with CUDA or wheels that are built for it, or take cuda: out of the spec",
        details=without,
    )


def _in_words(seen: Sequence[_Seen]) -> list[str]:
    return [f"{item.evidence.where}: CUDA {item.evidence.version}" for item in seen]
