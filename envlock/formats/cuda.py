"""CUDA versions as they are written in package names, versions and files, and the drivers that run them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

# Lowest Linux driver (x86_64) per CUDA version. From CUDA 11 on, one driver runs every minor version of its major
# ("minor version compatibility"); before that, each toolkit needs its own. Sources, all NVIDIA's: "CUDA Toolkit Release
# Notes", tables "… Minimum Required Driver Version for CUDA Minor Version Compatibility" and "CUDA Toolkit and
# Corresponding Driver Versions"; "CUDA Compatibility", chapter "Minor Version Compatibility". The toolkit's own, newer
# driver is only needed for what came with that minor version, and for compiling PTX of it at run time.
_BY_MAJOR = {11: "450.80.02", 12: "525.60.13", 13: "580"}
_BY_MINOR = {
    "8.0": "375.26",
    "9.0": "384.81",
    "9.1": "390.46",
    "9.2": "396.26",
    "10.0": "410.48",
    "10.1": "418.39",
    "10.2": "440.33",
    "11.0": "450.36.06",
}

# What comes with the driver, not with the toolkit: says nothing of the CUDA version that programs are built for
_DRIVER = re.compile(r"(cuda-(compat|drivers)|libcuda1|libnvidia-|nvidia-(driver|kernel|utils|compute|settings|smi)).*")


def min_driver(version: str) -> str:
    """Return the lowest Linux driver that runs a CUDA version ("12" or "12.4"); "" for one that is not known yet."""
    return _BY_MINOR.get(version) or _BY_MAJOR.get(int(version.partition(".")[0]), "")


def minor_version(version: str) -> str:
    """Return major and, where it is there, minor: ``11.8.89`` → ``11.8``."""
    return ".".join(version.split(".")[:2])


# --- wheels -----------------------------------------------------------------------------------------------------------

_LOCAL = re.compile(r"(?<![a-z])cu(?:da)?(\d{2,3})(?!\d)")
_SUFFIX = re.compile(r".+-cu(?:da)?(\d{2,3})x?(?:-(?:pjrt|plugin))?")
_VERSIONED = re.compile(r"nvidia-cuda-runtime(?:-cu\d{2})?|cuda-toolkit")  # their version is the toolkit's
_MAJOR_ONLY = re.compile(
    r"nvidia-(?:cuda-(?:nvrtc|cupti|nvcc|cccl)|nvjitlink|nvtx|nvvm|cublas)|cuda-(?:bindings|python)"
)


def wheel_version(name: str, version: str) -> str | None:
    """Return what a wheel's name and version say of CUDA, as precisely as they can be trusted.

    ``torch 2.1.2+cu118`` → ``11.8``; ``nvidia-cuda-runtime-cu12 12.4.127`` → ``12.4.127``; ``cupy-cuda12x`` and
    ``nvidia-cublas-cu12 12.4.5.8`` → ``12``: extensions and libraries may be of another minor version than the runtime.
    """
    public, _, local = version.partition("+")
    tag = _LOCAL.search(local)
    if tag:
        return _digits(tag.group(1))
    if _VERSIONED.fullmatch(name):
        return public if re.fullmatch(r"\d+\.\d+(\.\d+)*", public) else None
    suffix = _SUFFIX.fullmatch(name)
    if suffix:
        return _digits(suffix.group(1)).partition(".")[0]
    if _MAJOR_ONLY.fullmatch(name):
        return public.partition(".")[0]
    return None


def without_cuda(version: str) -> bool:
    """Return whether a wheel's version says that it was built without CUDA (``+cpu``, ``+rocm6.2``, ``+xpu``)."""
    return re.fullmatch(r"(cpu|rocm|xpu).*", version.partition("+")[2]) is not None


def _digits(digits: str) -> str:
    """Read ``118`` as 11.8, ``12`` as 12 and ``92`` as 9.2."""
    if len(digits) == len("118"):
        return f"{digits[:2]}.{digits[2]}"
    return digits if digits.startswith("1") else f"{digits[0]}.{digits[1]}"


# --- Debian packages --------------------------------------------------------------------------------------------------

_NVIDIA = re.compile(r"(?:cuda|lib(?:cu|np|nv)[a-z]*)(?:-[a-z]+)*-(\d{1,2})-(\d)")
_DEBIAN = re.compile(
    r"(?:lib(?:cu(?:dart|blas|dnn|fft|file|inj|pti|rand|solver|sparse|tensor)"
    r"|npp|nccl|nv(?:blas|inj|jitlink|jpeg|rtc|toolsext|vm)|accinj)|nvidia-cuda-).*"
)
_TOOLKIT = re.compile(r"[^~]*~(\d{1,2}\.\d{1,2})\.\d+-.*")  # 11.8.89~11.8.0-5: this library's version, then CUDA's
_BUILT_FOR = re.compile(r".*\+cuda(\d{1,2}\.\d{1,2}).*")  # libcudnn8 8.9.7.29-1+cuda12.2
_META = {"cuda", "cuda-runtime", "cuda-toolkit", "cuda-libraries", "nvidia-cuda-toolkit"}


def deb_version(name: str, version: str) -> str | None:
    """Return what a Debian package says of CUDA; None for drivers and for everything else.

    The name of Debian's own packages is that of the library's ABI (``libcudart11.0`` is of CUDA 11.0 to 11.8): their
    version tells. NVIDIA's have it in the name (``libcublas-12-4``), or are meta packages (``cuda 12.4.1-1``).
    """
    if _DRIVER.fullmatch(name):
        return None
    named = _NVIDIA.fullmatch(name)
    if named:
        return f"{named.group(1)}.{named.group(2)}"
    built_for = _BUILT_FOR.fullmatch(version)
    if built_for and _DEBIAN.fullmatch(name):
        return built_for.group(1).partition(".")[0]
    toolkit = _TOOLKIT.fullmatch(version)
    if toolkit and _DEBIAN.fullmatch(name):
        return toolkit.group(1)
    number = re.match(r"(?:\d+:)?(\d{1,2}\.\d{1,2}(?:\.\d+)?)", version)
    if number and (name in _META or re.fullmatch(r"libcudart\d[\d.]*", name)):
        return number.group(1)
    return None


# --- files and environment --------------------------------------------------------------------------------------------


def version_json(content: bytes) -> str | None:
    """Return the toolkit's version from its version.json (CUDA 11.1 and later)."""
    try:
        version = json.loads(content)["cuda"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return _plain(str(version))


def version_txt(content: bytes) -> str | None:
    """Return the toolkit's version from its version.txt (up to CUDA 11.0): ``CUDA Version 10.2.89``."""
    match = re.match(rb"CUDA Version (\d[\d.]*)", content)
    return _plain(match.group(1).decode()) if match else None


def environment_version(env: Mapping[str, str]) -> str | None:
    """Return the version that NVIDIA's images have in their environment."""
    return _plain(env.get("CUDA_VERSION", "")) or _plain(env.get("NV_CUDA_CUDART_VERSION", "").partition("-")[0])


def _plain(version: str) -> str | None:
    return version if re.fullmatch(r"\d{1,2}\.\d{1,2}(\.\d{1,4}){0,2}", version) else None
