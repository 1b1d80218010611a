"""Building with the engine's classic builder, and leaving nothing behind where that fails.

What a build makes: a container for each RUN (removed by the engine), an image for each step, and one at the end. After
a success the steps' images stay: they are the cache of the next build of the same plan (the last ones of earlier stages
show up as dangling, though they are that cache). After a failure or an interruption each image and container that this
build made is removed; what it found in the cache, and what somebody else came to use meanwhile, stays.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

import docker.errors

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.ending import discard
from envlock.adapters.engine.failures import disk_full, explanation, is_disk_full
from envlock.errors import BuildFailed, EngineError, EnvlockError
from envlock.formats.urls import scrub

_STEP = re.compile(r"Step (?P<step>\d+/\d+) : (?P<instruction>.*)", re.DOTALL)
_ARROW = re.compile(r" ---> (?:Running in (?P<container>[0-9a-f]{12,64})|(?P<image>[0-9a-f]{12,64}))")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
_KEPT_LINES = 200
_SETTLE_SECONDS = 5


@dataclass
class Trace:
    """What one build has made so far, as its output tells."""

    images: list[str] = field(default_factory=list)  # made by this build, oldest first
    containers: list[str] = field(default_factory=list)
    result: str | None = None
    step: str = ""  # "3/7"
    instruction: str = ""
    output: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    _cached: bool = False

    def line(self, line: str) -> None:
        """Take one line of the builder's output."""
        if found := _STEP.fullmatch(line):
            self.step, self.instruction = found["step"], found["instruction"]
            self._cached = False
            self.output.clear()
        elif line == " ---> Using cache":
            self._cached = True
        elif found := _ARROW.fullmatch(line):
            if found["container"]:
                self.containers.append(found["container"])
            elif not self._cached and not self.instruction.upper().startswith("FROM "):
                self.images.append(found["image"])
        elif not line.startswith(("Removing intermediate container ", "Successfully built ")):
            self.output.append(line)


class Builds:
    """The builds of this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._made: dict[str, list[str]] = {}  # result → all images that its build made

    def build(self, context: IO[bytes], *, platform: str, on_line: Callable[[str], None]) -> str:
        """Build a tar context; return the image's ID."""
        trace = Trace()
        try:
            with self._connection.fresh() as api, self._connection.reported("building", also=_bad_dockerfile):
                self._follow(api, context, platform, trace, on_line)
        except BaseException:
            self._clean(trace)
            raise
        assert trace.result is not None  # noqa: S101 - for the type checker
        self._made[trace.result] = trace.images
        return trace.result

    def made(self, image_id: str) -> bool:
        """Return whether this object built that image."""
        return image_id in self._made

    def undo(self, image_id: str) -> None:
        """Remove what the build of this image made beside it (other stages), once the image itself is gone."""
        with self._connection.reported("removing a build's images"):
            self._remove_images(self._made.pop(image_id, ()))

    def _follow(
        self, api: Any, context: IO[bytes], platform: str, trace: Trace, on_line: Callable[[str], None]
    ) -> None:
        rest = ""
        for answer in api.build(
            fileobj=context,
            custom_context=True,
            rm=True,
            forcerm=True,
            pull=False,
            network_mode="none",
            platform=platform,
            use_config_proxy=False,
            decode=True,
            timeout=None,  # a step may be silent for as long as it likes
        ):
            if words := answer.get("error") or (answer.get("errorDetail") or {}).get("message"):
                raise _failure(str(words), trace)
            trace.result = (answer.get("aux") or {}).get("ID") or trace.result
            *lines, rest = (rest + str(answer.get("stream", ""))).split("\n")
            for line in lines:
                self._tell(line, trace, on_line)
        if rest:
            self._tell(rest, trace, on_line)
        if trace.result is None:
            raise EngineError("the engine stopped the build without a word", hint="was it restarted? look at its log")

    @staticmethod
    def _tell(line: str, trace: Trace, on_line: Callable[[str], None]) -> None:
        clean = _CONTROL.sub("", line.rpartition("\r")[2] if not line.endswith("\r") else line[:-1])
        trace.line(clean)
        on_line(clean)

    def _clean(self, trace: Trace) -> None:
        """Remove what a failed build made; where the engine itself is gone, that is the error that counts already."""
        with suppress(EnvlockError), self._connection.reported("cleaning up after a build"):
            api = self._connection.api
            for container in trace.containers:
                discard(api, container)
            images = [*trace.images, *([trace.result] if trace.result else [])]
            self._remove_images([*images, *self._late(api, trace)])

    @staticmethod
    def _late(api: Any, trace: Trace) -> list[str]:
        """Return images that the engine made of our last container after we hung up."""
        if not trace.containers:
            return []
        known = {container[:12] for container in trace.containers}
        found = []
        for image in api.images(filters={"dangling": True}):
            with suppress(docker.errors.NotFound):
                if str(api.inspect_image(image["Id"]).get("Container", ""))[:12] in known:
                    found.append(image["Id"])
        return found

    def _remove_images(self, images: list[str] | tuple[str, ...]) -> None:
        """Remove images, newest first; those that something else came to use stay."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        for image in reversed(images):
            while True:
                try:
                    self._connection.api.remove_image(image, noprune=True)
                except docker.errors.NotFound:
                    pass
                except docker.errors.APIError as error:
                    # A container of the build that the engine is about to remove may still hold it for a moment.
                    if "container" in str(error.explanation) and time.monotonic() < deadline:
                        time.sleep(0.1)
                        continue
                break


def _bad_dockerfile(error: docker.errors.APIError) -> BuildFailed | None:
    words = explanation(error)
    if "dockerfile" in words.lower() or "unknown instruction" in words.lower():
        return BuildFailed(f"the engine cannot read the Dockerfile: {words}")
    return None


def _failure(words: str, trace: Trace) -> EnvlockError:
    words = scrub(" ".join(_CONTROL.sub("", words).split()))
    output = [scrub(line) for line in trace.output if line.strip()]
    instruction = " ".join(trace.instruction.split())
    if len(instruction) > 100:  # noqa: PLR2004 - one line of a message
        instruction = instruction[:99] + "…"
    where = f"step {trace.step}, {instruction}" if trace.step else "before its first step"
    if is_disk_full(words) or any(is_disk_full(line) for line in output[-20:]):
        return disk_full(f"building, {where}", words, details=output)
    code = re.search(r"returned a non-zero code: (\d+)", words)
    why = f"exit code {code[1]}" if code else words
    return BuildFailed(f"the build failed at {where}: {why}", details=output)
