"""A start from conda: an ``environment.yml``, or what ``conda list --export`` prints (``name=version=build`` lines)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from packaging.utils import canonicalize_name

from envlock.errors import Fault, SpecError
from envlock.formats import names
from envlock.formats.names import CUDA_VERSION
from envlock.formats.requirement import BadRequirement, canonical
from envlock.formats.spec_checks import OWN_VARIABLES
from envlock.formats.spec_reader import problem_of
from envlock.formats.text import looks_secret, quote
from envlock.formats.yaml_nodes import Items, Node, Scalar, Table, compose
from envlock.init.conda_names import CUDA, QUIET, RENAMED, SAME, from_index, is_python_build
from envlock.init.found import Found, LeftOut, as_name
from envlock.init.from_requirements import Parts

_EXPORT_LINE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)=([^=\s]+)=(\S+)")
_PLATFORM_LINE = re.compile(r"#\s*platform:\s*(\S+)")
_PLATFORMS = {"linux-64": "linux/amd64", "linux-aarch64": "linux/arm64", "linux-ppc64le": "linux/ppc64le"}
# name, then a version in any of conda's spellings, then perhaps a build
_SPEC = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(.*)", re.DOTALL)
_EXACT_PARTS = 3  # numpy=1.26 is any 1.26.x; numpy=1.26.4 is that version

_NOT_PYTHON = "no Python package: if the training needs it, add its Debian package under apt"
_UNKNOWN = "not known on the package index: if it is the same project there, add it under pip.packages"


def from_conda(text: str, *, file: str, read: Callable[[str], str]) -> Found:
    """Return what a conda file says; raises ``SpecError`` for one that is neither of the two."""
    lines = [line.strip() for line in text.splitlines()]
    listed = [found for line in lines if (found := _EXPORT_LINE.fullmatch(line))]
    if listed:
        return _from_export(lines, file=file)
    root, faults = compose(text, file=file)
    if faults or not isinstance(root, Table):
        fault = Fault(file=file, message="is neither a conda environment.yml nor the output of conda list --export")
        raise SpecError(faults or [fault])
    return _from_environment(root, file=file, read=read)


# pytorch's own channel says it in the build: py3.11_cuda11.8_cudnn8.7.0_0
_CUDA_BUILD = re.compile(r"(?:^|_)cuda([0-9]+\.[0-9]+)(?:_|$)")


@dataclass(kw_only=True, slots=True)
class _Carried:
    """What is carried over so far."""

    packages: dict[str, None] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    python: str | None = None
    cuda: str | None = None
    assumed: list[str] = field(default_factory=list)

    def add(self, name: str, version: str, *, shown: str, build: str = "") -> None:
        """Take a conda package; ``version`` is a PEP 440 specifier set, or empty."""
        lower = name.lower()
        if lower == "python":
            self.python = version.lstrip("=") or None
        if lower in CUDA:
            self._take_cuda(version)
        elif built_for := _CUDA_BUILD.search(build):
            self._take_cuda(f"=={built_for[1]}")
        target = self._on_index(lower, build)
        if target:
            self._require(target, version, shown=shown)
        elif lower not in QUIET | CUDA:
            is_library = bool(build) or _looks_native(lower)
            self.left_out.append(LeftOut(what=shown, why=_NOT_PYTHON if is_library else _UNKNOWN))

    def _take_cuda(self, version: str) -> None:
        found = re.match(r"==?([0-9]+\.[0-9]+)", version)
        if found and not problem_of(CUDA_VERSION, found[1]):
            self.cuda = self.cuda or found[1]

    def _on_index(self, name: str, build: str) -> str:
        if name in RENAMED:
            return RENAMED[name]
        normal = canonicalize_name(name)
        if normal in SAME or from_index(build):
            return normal
        if name in QUIET or not is_python_build(build):
            return ""
        self.assumed.append(normal)
        return normal

    def _require(self, target: str, version: str, *, shown: str) -> None:
        try:
            self.packages.setdefault(canonical(f"{target}{version}"))
        except BadRequirement as error:
            self.left_out.append(LeftOut(what=shown, why=error.message))


# --- conda list --export ----------------------------------------------------------------------------------------------


def _from_export(lines: list[str], *, file: str) -> Found:
    carried = _Carried()
    platform = None
    for line in lines:
        if said := _PLATFORM_LINE.fullmatch(line):
            platform = _platform(said[1], carried)
        elif found := _EXPORT_LINE.fullmatch(line):
            name, version, build = found.groups()
            carried.add(name, f"=={version}", shown=f"{name}={version}={build}", build=build)
        elif line and not line.startswith("#"):
            carried.left_out.append(LeftOut(what=quote(line)[1:-1], why="not a name=version=build line"))
    return _found(carried, file=file, platform=platform)


def _platform(subdir: str, carried: _Carried) -> str | None:
    if subdir not in _PLATFORMS:
        carried.left_out.append(LeftOut(what=f"platform {quote(subdir)[1:-1]}", why="images are built for Linux"))
    return _PLATFORMS.get(subdir)


# --- environment.yml --------------------------------------------------------------------------------------------------


def _from_environment(root: Table, *, file: str, read: Callable[[str], str]) -> Found:
    entries = {key.text: value for key, value in root.entries}
    carried, parts = _Carried(), Parts(read=read)
    for node in _items(entries.get("dependencies")):
        if isinstance(node, Scalar):
            _take_spec(node.text, carried)
        elif isinstance(node, Table):
            lines = [item.text for key, value in node.entries if key.text == "pip" for item in _scalars(value)]
            parts.take("\n".join(lines), file=file)
    carried.packages.update(parts.packages)
    carried.left_out += parts.left_out
    carried.left_out += [
        LeftOut(
            what=f"channel {quote(item.text)[1:-1]}", why="packages come from Python package indexes, not from conda"
        )
        for item in _scalars(entries.get("channels"))
        if item.text not in {"defaults", "conda-forge", "pytorch", "nvidia", "nodefaults", "huggingface"}
    ]
    name = entries.get("name")
    found = _found(carried, file=file, platform=None, parts=parts)
    title = as_name(name.text) if isinstance(name, Scalar) and name.text not in {"base", "root"} else None
    return _with(found, name=title, env=_variables(entries.get("variables"), carried), left_out=carried.left_out)


def _take_spec(text: str, carried: _Carried) -> None:
    """Take a match specification: channel::name, then a version in any of conda's spellings."""
    shown = quote(text)[1:-1]
    found = _SPEC.fullmatch(text.rpartition("::")[2].strip())
    if found is None:
        carried.left_out.append(LeftOut(what=shown, why="not a package"))
        return
    name, rest = found[1], found[2].strip()
    bracket = re.fullmatch(r"\[.*?version\s*=\s*['\"]?([^'\",\]]+).*\]", rest)
    version = _version(bracket[1] if bracket else rest)
    if version is None:
        carried.left_out.append(LeftOut(what=shown, why="its version has no counterpart on the package index"))
    else:
        carried.add(name, version, shown=shown)


def _version(text: str) -> str | None:
    """Return conda's version as a PEP 440 specifier set; None where there is no such."""
    text = re.sub(r"\s*,\s*", ",", text.strip())
    if not text or text == "*":
        return ""
    single = re.fullmatch(r"(==?|)\s*([0-9][A-Za-z0-9.!+_]*?)(\.?\*)?(?:[=\s]\S+)?", text)
    if single:
        exact, number, star = single[1] == "==", single[2], single[3]
        with_build = re.search(r"[0-9A-Za-z*][=\s]\S+$", text) is not None
        is_whole = exact or with_build or number.count(".") + 1 >= _EXACT_PARTS
        return f"=={number}" if is_whole and not star else f"=={number}.*"
    if re.fullmatch(r"(?:(?:>=|<=|==|!=|~=|>|<)\s*[0-9][A-Za-z0-9.!+]*(?:\.\*)?,?)+", text):
        return re.sub(r"\s", "", text).rstrip(",")
    return None


def _variables(node: Node | None, carried: _Carried) -> dict[str, str]:
    env = {}
    for key, value in node.entries if isinstance(node, Table) else ():
        is_safe = (
            not problem_of(names.VARIABLE, key.text) and not looks_secret(key.text) and key.text not in OWN_VARIABLES
        )
        if is_safe and isinstance(value, Scalar) and not problem_of(names.VALUE, value.text):
            env[key.text] = value.text
        else:
            carried.left_out.append(
                LeftOut(
                    what=f"variable {quote(key.text)[1:-1]}",
                    why="the image sets it, or it is no value for an image that others can read",
                )
            )
    return env


def _items(node: Node | None) -> tuple[Node, ...]:
    return node.items if isinstance(node, Items) else ()


def _scalars(node: Node | None) -> Iterator[Scalar]:
    yield from (item for item in _items(node) if isinstance(item, Scalar))


# --- both -------------------------------------------------------------------------------------------------------------


def _found(carried: _Carried, *, file: str, platform: str | None, parts: Parts | None = None) -> Found:
    version = re.match(r"3\.[0-9]{1,2}(?:\.[0-9]{1,2})?", carried.python or "")
    python = version[0] if version else None
    torch = next((line for line in carried.packages if line.startswith("torch==")), None)
    if carried.cuda and torch and not torch.endswith("*"):
        local = f"{torch}+cu{carried.cuda.replace('.', '')}"
        why = f"as a wheel that is {local}, from an index of its own: declare that under pip.indexes"
        carried.left_out.append(LeftOut(what=f"pytorch's build for CUDA {carried.cuda}", why=why))
    return Found(
        source=file,
        python=".".join(python.split(".")[:2]) if python else None,
        python_why=f"{file} has Python {python}" if python else "",
        python_full=python if python and python.count(".") > 1 else None,
        platform=platform,
        cuda=carried.cuda,
        packages=tuple(carried.packages),
        constraints=tuple(parts.constraints) if parts else (),
        indexes=parts.indexes() if parts else {},
        find_links=parts.folders if parts else {},
        left_out=tuple(carried.left_out),
        assumed=tuple(carried.assumed),
    )


def _with(found: Found, *, name: str | None, env: dict[str, str], left_out: list[LeftOut]) -> Found:
    return replace(found, name=name, env=env, left_out=tuple(left_out))


def _looks_native(name: str) -> bool:
    return (
        re.fullmatch(r"_.*|lib.*|.*-(?:compiler|dev|devel|static)|g(?:cc|xx|fortran).*|cuda-.*|mkl.*", name) is not None
    )
