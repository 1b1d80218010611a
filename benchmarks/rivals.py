"""What one would do instead: a Dockerfile with pip for the classic builder, and one with uv for BuildKit.

Both get every pin, so that neither resolves (``--no-deps``), and both compile bytecode, as envlock does.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

from benchmarks.bench import BASE, Bench
from benchmarks.engines import LABEL, Docker
from benchmarks.environments import LONGEST, Environment, requirements
from benchmarks.measure import Done
from envlock.adapters.resolvers.uv import find_uv
from envlock.model.lock import Lock
from tests.support.building import pip_bytes

# Before the requirements comes what never changes, so that every builder has it in its cache.
_PIP = """\
FROM {base}
LABEL {label}={mark}
ARG PIP_INDEX_URL
ENV PIP_CERT=/{label}/ca.pem PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_DEFAULT_TIMEOUT=180
COPY ca.pem {pip} /{label}/
RUN python3 -m venv --without-pip /opt/venv && /opt/venv/bin/python /{label}/{pip}/pip install --no-index /{label}/{pip}
COPY requirements.txt /{label}/
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --find-links {links} -r /{label}/requirements.txt
"""
_UV = """\
FROM {base}
LABEL {label}={mark}
ARG UV_DEFAULT_INDEX
ENV SSL_CERT_FILE=/{label}/ca.pem UV_LINK_MODE=copy UV_HTTP_TIMEOUT=180
COPY ca.pem uv /{label}/
RUN python3 -m venv --without-pip /opt/venv # {label}
COPY requirements.txt /{label}/
RUN --mount=type=cache,id={label},target=/root/.cache/uv \
    /{label}/uv pip install --python /opt/venv/bin/python --no-deps --compile-bytecode --find-links {links} \
    -r /{label}/requirements.txt
"""
_STEP = f"/{LABEL}/uv pip install"  # as the Dockerfile has it
_INDEX = {"pip": "PIP_INDEX_URL", "uv": "UV_DEFAULT_INDEX"}
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(kw_only=True)
class Rival:
    """A Dockerfile, with the folder that it is built from."""

    tool: str
    name: str
    bench: Bench
    engine: Docker
    folder: Path
    images: list[str] = field(default_factory=list)  # what was built so far, the last one with the tag

    @property
    def tag(self) -> str:
        """Return the image's name."""
        return f"{LABEL}-{self.bench.mark}-{self.folder.name}"

    def require(self, lock: Lock) -> None:
        """Ask for the same as a lock."""
        (self.folder / "requirements.txt").write_text(requirements(lock))

    def build(self, *, cache: bool = True) -> Done:
        """Build the image; raises ``CommandFailed``."""
        arguments = [part for name in (_INDEX[self.tool], *_PROXIES) for part in ("--build-arg", name)]
        options = [] if cache else ["--no-cache"]
        if self.tool == "pip":
            options.append("--force-rm")
        argv = ["build", "--network", "host", *arguments, *options, "--tag", self.tag, "."]
        env = {"DOCKER_BUILDKIT": str(int(self.tool == "uv")), _INDEX[self.tool]: self.bench.env["PIP_INDEX_URL"]}
        done = self.engine.run(*argv, cwd=self.folder, timeout=LONGEST, **env)
        self.images.append(str(self.engine.inspect(self.tag)["Id"]))
        return done

    def forget_cold(self) -> None:
        """Remove all that earlier builds have left, the cache mount as well."""
        if self.tool == "uv":
            self.engine.remove_cache()

    def forget_changed(self) -> None:
        """Remove all images but the first, and what BuildKit keeps of them: gigabytes each."""
        first, *others = self.images or [""]
        self.engine.remove([image for image in dict.fromkeys(others) if image != first])
        self.images = self.images[:1]
        if self.tool == "uv":
            self.engine.remove_cache(_STEP, mounts=False)


def rivals(environment: Environment) -> list[Rival]:
    """Return those that this machine can run, for an environment."""
    bench = environment.bench
    if bench.alone:
        return []
    found = [_rival("pip", "Dockerfile with pip, classic builder", environment, bench.engine)]
    if bench.second is not None:
        found.append(_rival("uv", "Dockerfile with uv, BuildKit", environment, bench.second))
    return found


def _rival(tool: str, name: str, environment: Environment, engine: Docker) -> Rival:
    bench = environment.bench
    folder = bench.folder / f"{environment.name}-{tool}"
    folder.mkdir()
    pip = f"pip-{distribution('pip').version}-py3-none-any.whl"
    filled = {"pip": _PIP, "uv": _UV}[tool].format(base=BASE, label=LABEL, links=bench.url, mark=bench.mark, pip=pip)
    (folder / "Dockerfile").write_text(filled)
    (folder / "ca.pem").write_bytes(_bundle(bench))
    if tool == "pip":
        (folder / pip).write_bytes(pip_bytes())
    else:
        shutil.copy(find_uv(), folder / "uv")
    rival = Rival(tool=tool, name=name, bench=bench, engine=engine, folder=folder)
    rival.require(environment.lock)
    return rival


def _bundle(bench: Bench) -> bytes:
    named = bench.env.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if named and Path(named).is_file():
        return Path(named).read_bytes()
    import certifi  # noqa: PLC0415 - requests brings it

    return Path(certifi.where()).read_bytes()
