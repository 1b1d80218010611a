"""CUDA versions from names, versions and files; what contradicts, and which driver is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envlock.errors import Unresolvable
from envlock.formats.cuda import deb_version, environment_version, min_driver, version_json, version_txt, wheel_version
from envlock.lock.cuda import base_cuda, check_cuda
from envlock.model.lock import Cuda, Deb, Wheel
from envlock.ports import Completed
from tests.support.locks import make_deb, make_wheel


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        ("torch", "2.1.2+cu118", "11.8"),
        ("torch", "2.9.0+cu130", "13.0"),
        ("torch", "1.9.0+cu92", "9.2"),
        ("torch", "2.5.1", None),
        ("torch", "2.5.1+cpu", None),
        ("torch", "2.5.1+rocm6.2", None),
        ("jaxlib", "0.4.25+cuda12.cudnn89", "12"),
        ("torch-scatter", "2.1.2+pt21cu118", "11.8"),
        ("flash-attn", "2.5.8+cu122torch2.3cxx11abifalse", "12.2"),
        ("nvidia-cuda-runtime-cu12", "12.4.127", "12.4.127"),
        ("nvidia-cuda-runtime-cu11", "11.8.89", "11.8.89"),
        ("nvidia-cuda-runtime", "13.0.96", "13.0.96"),
        ("nvidia-cublas-cu12", "12.4.5.8", "12"),
        ("nvidia-cudnn-cu13", "9.13.0.50", "13"),
        ("nvidia-nccl-cu11", "2.19.3", "11"),
        ("nvidia-cufft", "12.0.0.61", None),  # of CUDA 13: the number is its own
        ("nvidia-nvjitlink", "13.0.88", "13"),
        ("cuda-toolkit", "12.8.1", "12.8.1"),
        ("cuda-bindings", "12.9.4", "12"),
        ("cuda-pathfinder", "1.2.3", None),
        ("jax-cuda12-plugin", "0.5.0", "12"),
        ("jax-cuda13-pjrt", "0.9.0", "13"),
        ("cupy-cuda12x", "13.4.0", "12"),
        ("cupy-cuda110", "12.3.0", "11"),
        ("cupy-cuda92", "9.6.0", "9"),
        ("cuml-cu12", "25.2.0", "12"),
        ("bitsandbytes", "0.45.0", None),
        ("triton", "3.1.0", None),
        ("cucumber", "11.8.0", None),
        ("numpy", "1.26.4+focus112", None),
    ],
)
def test_wheels(name: str, version: str, found: str | None) -> None:
    assert wheel_version(name, version) == found


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        ("libcudart11.0", "11.8.89~11.8.0-5~deb12u1", "11.8"),
        ("libcublas11", "11.11.3.6~11.8.0-5~deb12u1", "11.8"),
        ("libcusparse11", "11.7.5.86~11.8.0-5", "11.8"),
        ("nvidia-cuda-toolkit", "11.5.1-1ubuntu1", "11.5.1"),
        ("nvidia-cuda-toolkit", "12.0.140~12.0.1-4build4", "12.0"),
        ("libcudart12", "12.0.146~12.0.1-4build4", "12.0"),
        ("libcudart10.1", "10.1.243-6build1", "10.1.243"),
        ("cuda-runtime-11-8", "11.8.0-1", "11.8"),
        ("cuda-cudart-dev-12-4", "12.4.127-1", "12.4"),
        ("libcublas-12-4", "12.4.5.8-1", "12.4"),
        ("libnpp-dev-13-0", "13.0.1-1", "13.0"),
        ("cuda", "12.4.1-1", "12.4.1"),
        ("libcudnn8", "8.9.7.29-1+cuda12.2", "12"),
        ("libnccl2", "2.21.5-1+cuda12.4", "12"),
        ("libcuda1", "525.147.05-1", None),
        ("libnvidia-compute-550", "550.54.15-0ubuntu1", None),
        ("cuda-compat-12-4", "550.54.15-1", None),
        ("cuda-drivers", "550.54.15-1", None),
        ("libcurl4", "7.88.1-10~12.1.0-1", None),
        ("libc6", "2.36-9", None),
    ],
)
def test_debian_packages(name: str, version: str, found: str | None) -> None:
    assert deb_version(name, version) == found


def test_files_and_environment() -> None:
    assert version_json(b'{"cuda": {"name": "CUDA SDK", "version": "12.4.1"}}') == "12.4.1"
    assert version_json(b'{"cuda": {"version": "; rm -rf /"}}') is None
    assert version_json(b"[" * 100_000) is None
    assert version_txt(b"CUDA Version 10.2.89\n") == "10.2.89"
    assert version_txt(b"nothing") is None
    assert environment_version({"CUDA_VERSION": "11.8.0"}) == "11.8.0"
    assert environment_version({"NV_CUDA_CUDART_VERSION": "12.1.105-1"}) == "12.1.105"
    assert environment_version({"CUDA_VERSION": "none"}) is None


@given(st.binary())
def test_files_of_anybody(content: bytes) -> None:
    for read in (version_json, version_txt):
        found = read(content)
        assert found is None or found[0].isdigit()


@pytest.mark.parametrize(
    ("version", "driver"),
    [
        ("10.2", "440.33"),
        ("11.0", "450.36.06"),
        ("11.8", "450.80.02"),
        ("11", "450.80.02"),
        ("12.9", "525.60.13"),
        ("13.1", "580"),
        ("99.1", ""),
    ],
)
def test_lowest_drivers(version: str, driver: str) -> None:
    assert min_driver(version) == driver


# --- together ---------------------------------------------------------------------------------------------------------

TORCH_12 = [
    make_wheel("torch", "2.5.1"),
    make_wheel("nvidia-cuda-runtime-cu12", "12.4.127"),
    make_wheel("nvidia-cublas-cu12", "12.4.5.8"),
    make_wheel("nvidia-nvjitlink-cu12", "12.9.86"),
]
CUDART_11 = make_deb("libcudart11.0", "11.8.89~11.8.0-5~deb12u1")


def check(
    *, base: str | None = None, debs: Sequence[Deb] = (), wheels: Sequence[Wheel] = (), wanted: str | None = None
) -> Cuda | None:
    return check_cuda(base=base, debs=debs, wheels=wheels, wanted=wanted)


def test_no_cuda() -> None:
    assert check(wheels=[make_wheel("numpy"), make_wheel("torch", "2.5.1+cpu")]) is None


def test_the_runtimes_minor_version_and_all_evidence() -> None:
    cuda = check(wheels=TORCH_12)
    assert cuda is not None
    assert (cuda.version, cuda.min_driver) == ("12.4", "525.60.13")
    assert [(item.where, item.version) for item in cuda.evidence] == [
        ("nvidia-cuda-runtime-cu12 12.4.127", "12.4.127"),
        ("nvidia-cublas-cu12 12.4.5.8", "12"),
        ("nvidia-nvjitlink-cu12 12.9.86", "12"),
    ]


def test_torchs_tag_comes_before_the_base() -> None:
    cuda = check(base="11.7.1", debs=[CUDART_11], wheels=[make_wheel("torch", "2.0.1+cu117")], wanted="11.7")
    assert cuda is not None
    assert cuda.version == "11.7"
    assert [item.where for item in cuda.evidence] == ["base", "apt libcudart11.0", "torch 2.0.1+cu117"]


def test_only_the_base() -> None:
    cuda = check(base="12.4.1", wheels=[make_wheel("torch", "2.5.1+cpu")], wanted="12")
    assert cuda is not None
    assert cuda.version == "12.4"


@pytest.mark.parametrize(
    ("parts", "words", "hint"),
    [
        (
            {"wheels": [make_wheel("torch", "2.1.2+cu118"), make_wheel("cupy-cuda12x")]},
            ["torch 2.1.2+cu118: CUDA 11.8", "cupy-cuda12x 1.0: CUDA 12"],
            "pip.indexes",
        ),
        (
            {"base": "11.8.0", "wheels": TORCH_12[:2]},
            ["base: CUDA 11.8.0", "nvidia-cuda-runtime-cu12 12.4.127: CUDA 12.4.127"],
            "without CUDA",
        ),
        (
            {"debs": [CUDART_11], "wheels": TORCH_12[1:2]},
            ["apt libcudart11.0: CUDA 11.8", "nvidia-cuda-runtime-cu12 12.4.127: CUDA 12.4.127"],
            "apt packages",
        ),
        ({"base": "12.4", "debs": [CUDART_11]}, ["base: CUDA 12.4", "apt libcudart11.0: CUDA 11.8"], "base"),
    ],
    ids=["two wheels", "base and wheels", "apt and wheels", "base and apt"],
)
def test_two_majors_contradict(parts: Mapping[str, object], words: list[str], hint: str) -> None:
    with pytest.raises(Unresolvable, match="two CUDA major versions in one environment: 11 and 12") as raised:
        check(**parts)
    assert list(raised.value.details) == words
    assert hint in raised.value.hint


def test_minor_versions_go_together() -> None:
    cuda = check(base="12.1.0", debs=[make_deb("libcublas-12-6")], wheels=TORCH_12)
    assert cuda is not None
    assert cuda.version == "12.4"


@pytest.mark.parametrize("wanted", ["12", "12.4", "12.4.1"])
def test_the_spec_agrees(wanted: str) -> None:
    assert check(wheels=TORCH_12, wanted=wanted) is not None


@pytest.mark.parametrize("wanted", ["11", "11.8", "12.1", "1"])
def test_the_spec_contradicts(wanted: str) -> None:
    with pytest.raises(Unresolvable, match=f"the spec says CUDA {wanted}, and what it asks for brings CUDA 12.4"):
        check(wheels=TORCH_12, wanted=wanted)


def test_the_spec_wants_cuda_and_there_is_none() -> None:
    with pytest.raises(Unresolvable, match="brings CUDA") as raised:
        check(wheels=[make_wheel("torch", "2.5.1+cpu")], wanted="12.4")
    assert raised.value.details == ("torch 2.5.1+cpu is built without CUDA",)


def test_a_cuda_of_the_future() -> None:
    cuda = check(base="21.0")
    assert cuda is not None
    assert cuda.min_driver == "", "a table of ours must not stand in anybody's way"


# --- the base ---------------------------------------------------------------------------------------------------------


class Folder:
    """A container that has some files and an environment."""

    def __init__(self, files: Mapping[str, bytes], env: Mapping[str, str] | None = None) -> None:
        self._files = files
        self._env = env or {}

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        if argv[0] == "env":
            lines = [f"{name}={value}" for name, value in self._env.items()]
        else:
            lines = sorted(
                {"/".join(path.split("/")[:4]) for path in self._files if path.startswith("/usr/local/cuda")}
            )
        return Completed(exit_code=0, stdout="\n".join(lines).encode(), stderr=b"")

    def read(self, path: str) -> bytes | None:
        return self._files.get(path)

    def put(self, files: object, *, executable: object = ()) -> None:
        raise NotImplementedError

    def files(self, path: str) -> Iterator[tuple[str, bytes]]:
        raise NotImplementedError

    def handler_error(self) -> None:
        return None


def _json(version: str) -> bytes:
    return f'{{"cuda": {{"version": "{version}"}}}}'.encode()


def _status(name: str, version: str) -> bytes:
    return f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n".encode()


def test_what_a_base_has() -> None:
    both = {
        "/usr/local/cuda-11.8/version.json": _json("11.8.0"),
        "/usr/local/cuda/version.json": _json("12.4.1"),
        "/usr/local/cuda-12.4/version.json": _json("12.4.1"),
    }
    assert base_cuda(Folder(both, {"CUDA_VERSION": "11.8.0"})) == "12.4.1"
    assert base_cuda(Folder({"/usr/local/cuda-10.2/version.txt": b"CUDA Version 10.2.89\n"})) == "10.2.89"
    debs = _status("libcudart11.0", "11.8.89~11.8.0-5~deb12u1") + _status("libcublas-12-4", "12.4.5.8-1")
    assert base_cuda(Folder({"/var/lib/dpkg/status": debs})) == "11.8"
    assert base_cuda(Folder({}, {"CUDA_VERSION": "12.1.0"})) == "12.1.0"
    assert base_cuda(Folder({"/var/lib/dpkg/status": _status("libc6", "2.36-9")}, {"PATH": "/bin"})) is None
    assert base_cuda(Folder({"/var/lib/dpkg/status": b"not a status"})) is None
