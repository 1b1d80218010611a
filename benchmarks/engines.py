"""The engines that take part, and taking away from them what was left there."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import CommandFailed, Done, command, removed, say
from envlock.adapters.engine.endpoint import find_endpoint

LABEL = "envlock-bench"  # of every image that is made here; its value is the run's own
_QUICK = 120  # seconds
_ROUNDS = 10
_SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "engine"


@dataclass(frozen=True, kw_only=True)
class Docker:
    """An engine, by the environment that the docker command line finds it with."""

    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Return its address."""
        return find_endpoint({**os.environ, **self.env}).host

    def run(self, *argv: str | Path, timeout: float = _QUICK, cwd: Path | None = None, **env: str) -> Done:
        """Run the docker command line; raises ``CommandFailed``."""
        return command(["docker", *argv], cwd=cwd or Path.cwd(), env={**self.env, **env}, timeout=timeout)

    def version(self) -> str:
        """Return what it calls itself, and how it keeps layers."""
        version = self.run("version", "--format", "{{.Server.Version}}").stdout.strip()
        return f"{version} ({self.run('info', '--format', '{{.Driver}}').stdout.strip()})"

    def inspect(self, name: str) -> dict[str, object]:
        """Return what it says of an image."""
        return dict(json.loads(self.run("image", "inspect", name).stdout)[0])

    def layers(self, name: str) -> tuple[str, ...]:
        """Return the diff_ids of an image."""
        return tuple(json.loads(self.run("image", "inspect", "--format", "{{json .RootFS.Layers}}", name).stdout))

    def size(self, name: str) -> int:
        """Return how large an image is, unpacked, with its base."""
        return int(self.run("image", "inspect", "--format", "{{.Size}}", name).stdout)

    def labelled(self, value: str) -> list[str]:
        """Return the IDs of the images that this run made."""
        found = self.run("images", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL}={value}").stdout
        return list(dict.fromkeys(found.split()))

    def remove(self, images: Sequence[str]) -> None:
        """Remove images with all their names; what is gone already, or is below another one, is fine."""
        for image in images:
            with suppress(CommandFailed):
                self.run("rmi", "--force", image, timeout=600)
                removed()

    def remove_labelled(self, value: str) -> None:
        """Remove every image of this run; those below others, or in a container that is ending, in a later round."""
        for _ in range(_ROUNDS):
            left = self.labelled(value)
            if not left:
                return
            self.remove(left)
            time.sleep(1)
        say(f"these images could not be removed: {' '.join(left)}")

    def remove_cache(self, word: str = LABEL, *, mounts: bool = True) -> None:
        """Remove what BuildKit keeps of builds that have a word in their steps, and nothing else.

        ``mounts``: what they kept in cache mounts as well.
        """
        before = -1
        for _ in range(_ROUNDS):  # what another record stands on goes after that one
            found = [
                record["ID"]
                for record in self.cache()
                if word in record["Description"] and (mounts or record["CacheType"] != "exec.cachemount")
            ]
            if len(found) in {0, before}:
                return
            before = len(found)
            self.forget(found)

    def forget(self, records: Iterable[str]) -> None:
        """Remove records of BuildKit's cache by their IDs."""
        for record in records:
            self.run("builder", "prune", "--force", "--all", "--filter", f"id={record}", timeout=600)
            removed()

    def cache(self) -> list[dict[str, str]]:
        """Return what BuildKit keeps."""
        return list(json.loads(self.run("system", "df", "--verbose", "--format", "{{json .BuildCache}}").stdout) or ())

    def contexts(self) -> set[str]:
        """Return the IDs of the folders that BuildKit got to build from."""
        return {record["ID"] for record in self.cache() if record["CacheType"] == "source.local"}


def second_engine() -> Docker | None:
    """Start the engine that has BuildKit, if this machine can have it."""
    try:
        done = subprocess.run([_SCRIPT, "second", "up"], check=False, capture_output=True, timeout=900)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    lines = command([_SCRIPT, "env"], cwd=Path.cwd(), timeout=_QUICK).stdout.replace("export ", "").splitlines()
    values = {name: value.strip("'\"") for name, _, value in (line.partition("=") for line in lines)}
    return Docker(
        env={
            "DOCKER_HOST": values["ENVLOCK_DEV_SECOND_HOST"],
            "DOCKER_CONFIG": values["ENVLOCK_DEV_SECOND_CONFIG"],
            "DOCKER_BUILDKIT": "1",
        }
    )
