"""An engine in memory that behaves: images, names, containers with scripted programs, builds.

``tests/engine/test_engine_contract.py`` holds it against the real one.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from envlock.errors import BuildFailed, EngineError, EnvlockError, InputError, UnknownImage
from envlock.formats.reference import parse_reference
from envlock.model.lock import Descriptor
from envlock.ports import Completed, EngineImage, EngineInfo, Handler, Progress

Program = Callable[["FakeContainer", Sequence[str], Mapping[str, str]], Completed]


def completed(stdout: str = "", *, stderr: str = "", exit_code: int = 0) -> Completed:
    return Completed(exit_code=exit_code, stdout=stdout.encode(), stderr=stderr.encode())


@dataclass
class FakeContainer:
    """A container of files in a dict; ``programs`` answers by the first argument."""

    content: dict[str, bytes]
    programs: Mapping[str, Program]
    handler: Handler | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ran: list[tuple[str, ...]] = field(default_factory=list)
    error: EnvlockError | None = None

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        self.error = None
        self.ran.append(tuple(argv))
        program = self.programs.get(argv[0])
        if program is None:
            return completed(f"{argv[0]}: executable file not found", exit_code=127)
        try:
            done = program(self, argv, {**self.env, **(env or {})})
        except EnvlockError as error:  # of the handler: the program sees a 502 and fails
            self.error = error
            return completed(stderr="502", exit_code=1)
        for line in (done.stdout + done.stderr).decode().splitlines() if on_line else ():
            on_line(line)
        return done

    def put(self, files: Mapping[str, bytes | Path], *, executable: Iterable[str] = ()) -> None:
        for path, content in files.items():
            self.content[path] = content if isinstance(content, bytes) else content.read_bytes()

    def read(self, path: str) -> bytes | None:
        return self.content.get(path)

    def files(self, path: str) -> Iterator[tuple[str, bytes]]:
        top = path.rstrip("/") + "/"
        for name, content in list(self.content.items()):
            if name.startswith(top):
                yield name.removeprefix(top), content

    def handler_error(self) -> EnvlockError | None:
        return self.error


@dataclass
class FakePipe:
    process: subprocess.Popen[bytes]

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self, size: int) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read(size)

    def complaints(self) -> list[str]:
        return []

    def close(self) -> None:
        self.process.kill()


@dataclass
class FakeEngine:
    """An engine; ``add`` gives it images, ``programs`` what they can run, ``in_registry`` what can be pulled."""

    images: dict[str, EngineImage] = field(default_factory=dict)  # ID → image
    content: dict[str, dict[str, bytes]] = field(default_factory=dict)  # ID → files
    programs: dict[str, Program] = field(default_factory=dict)
    in_registry: dict[str, EngineImage] = field(default_factory=dict)  # reference → image
    pushed: list[str] = field(default_factory=list)
    ran: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    python: bool = True

    def add(
        self, reference: str | None = None, *, files: Mapping[str, bytes] | None = None, **parts: object
    ) -> EngineImage:
        digest = f"sha256:{hashlib.sha256(repr((reference, len(self.images), parts)).encode()).hexdigest()}"
        image = EngineImage(
            id=digest,
            tags=(reference,) if reference else (),
            digests=(),
            diff_ids=(digest,),
            platform="linux/amd64",
            env={"PATH": "/usr/bin:/bin"},
            labels={},
            user="",
            workdir="",
            entrypoint=(),
            size=1,
        )
        self.images[digest] = replace(image, **parts)  # type: ignore[arg-type]
        self.content[digest] = dict(files or {})
        return self.images[digest]

    def info(self) -> EngineInfo:
        return EngineInfo(version="fake", platform="linux/amd64", storage="memory", mirrors=())

    def find(self, reference: str) -> EngineImage | None:
        if reference.startswith("sha256:"):
            return self.images.get(reference)
        name = parse_reference(reference)
        wanted = {f"{name.name}@{name.digest}"} if name.digest else {f"{name.name}:{name.tag or 'latest'}"}
        return next((image for image in self.images.values() if wanted & {*image.tags, *image.digests}), None)

    def labelled(self, label: str) -> list[EngineImage]:
        return [image for image in self.images.values() if label in image.labels]

    def pull(self, reference: str, *, platform: str, progress: Progress) -> EngineImage:
        found = self.in_registry.get(reference)
        if found is None:
            raise UnknownImage(f"no registry has {reference}", hint="check its name")
        if found.platform != platform:
            raise InputError(f"{reference} is for {found.platform}, not for {platform}")
        self.images[found.id] = found
        return found

    def distribution(self, reference: str) -> Descriptor:
        if reference not in self.in_registry:
            raise UnknownImage(f"no registry has {reference}", hint="check its name")
        digest = f"sha256:{hashlib.sha256(self.in_registry[reference].id.encode()).hexdigest()}"
        return Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=digest, size=1)

    @contextmanager
    def container(
        self,
        image: str,
        *,
        handler: Handler | None = None,
        python: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Iterator[FakeContainer]:
        found = self._have(image)
        if not self.python:
            raise InputError(f"no Python runs in {image}", hint="choose a base that has one")
        yield FakeContainer(dict(self.content.get(found.id, {})), self.programs, handler, {**found.env, **(env or {})})

    @contextmanager
    def piped(self, image: str, argv: Sequence[str], *, env: Mapping[str, str]) -> Iterator[FakePipe]:
        """Run this machine's own Python, whichever the image has."""
        self._have(image)
        if not self.python:
            raise EngineError(f"{argv[0]}: executable file not found")
        kinds: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([sys.executable, *argv[1:]], env=dict(env), **kinds) as process:
            assert process.stdin is not None
            try:
                yield FakePipe(process)
            finally:
                process.stdin.close()

    def build(self, context: IO[bytes], *, platform: str, on_line: Callable[[str], None]) -> str:
        with tarfile.open(fileobj=io.BytesIO(context.read())) as archive:
            dockerfile = archive.extractfile("Dockerfile")
            lines = dockerfile.read().decode().splitlines() if dockerfile else []
        for number, line in enumerate(lines, 1):
            on_line(f"Step {number}/{len(lines)} : {line}")
            if "exit 1" in line:
                raise BuildFailed(
                    f"the build failed at step {number}/{len(lines)}, {line}: exit code 1", details=["oops"]
                )
        return self.add(platform=platform, labels={"dockerfile": "\n".join(lines)}).id

    def tag(self, image_id: str, reference: str) -> None:
        image = self._have(image_id)
        name = parse_reference(reference)
        wanted = f"{name.name}:{name.target}"
        for each in list(self.images.values()):
            self.images[each.id] = replace(each, tags=tuple(tag for tag in each.tags if tag != wanted))
        self.images[image.id] = replace(image, tags=(*(tag for tag in image.tags if tag != wanted), wanted))

    def remove(self, reference: str) -> None:
        image = self.find(reference)
        if image is None:
            return
        left = tuple(tag for tag in image.tags if tag != reference)
        if left and not reference.startswith("sha256:"):
            self.images[image.id] = replace(image, tags=left)
        else:
            del self.images[image.id]

    def push(self, reference: str, *, progress: Progress) -> str:
        image = self._have(reference)
        self.pushed.append(reference)
        return f"sha256:{hashlib.sha256(image.id.encode()).hexdigest()}"

    def run(
        self,
        image: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        volumes: Mapping[str, str],
        network: str | None,
        gpus: bool,
        on_output: Callable[[bytes, bool], None],
    ) -> int:
        with self.container(image, env=env) as container:
            done = container.run(argv)
        self.ran.append((image, tuple(argv)))
        on_output(done.stdout, False)
        on_output(done.stderr, True)
        return done.exit_code

    def _have(self, reference: str) -> EngineImage:
        image = self.find(reference)
        if image is None:
            raise UnknownImage(f"the engine has no image {reference}", hint="pull it")
        return image
