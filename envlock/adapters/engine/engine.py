"""``ports.Engine`` on the Docker SDK.

What a question needs is imported with the question: most commands ask one or two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from envlock.adapters.engine import images
from envlock.adapters.engine.connection import Connection
from envlock.formats.oci_archive import Loadable
from envlock.model.lock import Descriptor
from envlock.ports import Coming, Container, EngineImage, EngineInfo, Handler, Loaded, Pipe, Progress, Supplies

if TYPE_CHECKING:
    from envlock.adapters.engine.build import Builds


class DockerEngine:
    """The engine that the environment names (``DOCKER_HOST``, ``DOCKER_CONTEXT``, ``DOCKER_CONFIG`` …).

    Nothing happens before the first question; each method raises ``EngineError`` where no engine answers or it refuses
    us, and ``UsageError`` where the environment names something that cannot be an engine.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._connection = Connection(environment)

    @cached_property
    def _builds(self) -> Builds:
        from envlock.adapters.engine.build import Builds

        return Builds(self._connection)

    @property
    def address(self) -> str:
        """Return where the engine is, as a URL."""
        return self._connection.endpoint.host

    def close(self) -> None:
        """End all connections."""
        self._connection.close()

    def connect(self) -> None:
        """Find out that it answers."""
        _ = self._connection.api

    def info(self) -> EngineInfo:
        """Say what engine this is."""
        return images.info(self._connection)

    def find(self, reference: str) -> EngineImage | None:
        """Return the image that the engine has by this tag, digest or ID."""
        return images.find(self._connection, reference)

    def pull(self, reference: str, *, platform: str, progress: Progress) -> EngineImage:
        """Pull by tag or digest; raises ``UnknownImage``, ``InputError`` (not for this platform), ``RegistryError``."""
        return images.pull(self._connection, reference, platform=platform, progress=progress)

    def distribution(self, reference: str) -> Descriptor:
        """Ask the registry, through the engine, what a reference points to; raises as ``pull`` does."""
        return images.distribution(self._connection, reference)

    def container(
        self,
        image: str,
        *,
        handler: Handler | None = None,
        python: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Container]:
        """Start a container that has no network and lives as long as the context."""
        from envlock.adapters.engine import start

        return start.container(self._connection, image, handler=handler, python=python, env=env or {})

    def piped(self, image: str, argv: Sequence[str], *, env: Mapping[str, str]) -> AbstractContextManager[Pipe]:
        """Run a program as the first process of a container that lives as long as the context."""
        from envlock.adapters.engine import piped

        return piped.piped(self._connection, image, argv, env=env)

    def installed(
        self,
        image: str,
        files: Mapping[str, Path],
        *,
        python: str,
        argv: Sequence[str],
        check: Sequence[str],
        folders: Sequence[str],
        env: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> AbstractContextManager[IO[bytes]]:
        """Install system packages in a container, and give the tar of what that changed."""
        from envlock.adapters.engine import installation

        return installation.installed(
            self._connection,
            image,
            files,
            python=python,
            argv=argv,
            check=check,
            folders=folders,
            env=env,
            on_line=on_line,
        )

    def tree(self, image: str) -> AbstractContextManager[IO[bytes]]:
        """Give the tar of an image's whole file system, as a container of it would see it."""
        from envlock.adapters.engine import trees

        return trees.tree(self._connection, image)

    def saved(self, image: str) -> AbstractContextManager[IO[bytes]]:
        """Give an image as ``docker save`` writes it; reading may stop anywhere."""
        from envlock.adapters.engine import saved

        return saved.saved(self._connection, image)

    def build(self, context: IO[bytes], *, platform: str, on_line: Callable[[str], None]) -> str:
        """Build a Dockerfile from a tar context with the network off; return the image's ID, untagged."""
        return self._builds.build(context, platform=platform, on_line=on_line)

    def lacks(self, image: Loadable) -> int:
        """Return how many bytes of layers loading this image would send."""
        from envlock.adapters.engine.load import lacks

        return lacks(self._connection, image)

    def labelled(self, label: str) -> Sequence[EngineImage]:
        """Return all images that have a label of this name."""
        return images.labelled(self._connection, label)

    def load(self, image: Loadable, supplies: Supplies, *, progress: Progress) -> Loaded:
        """Have a composed image, sending only what the engine lacks; see ``ports.Engine``."""
        from envlock.adapters.engine.load import load

        return load(self._connection, image, supplies, progress=progress)

    def load_early(self, coming: Coming, supplies: Supplies, *, progress: Progress) -> Loaded:
        """Have an image whose last layers are still to come; see ``ports.Engine``."""
        from envlock.adapters.engine.load import load_early

        return load_early(self._connection, coming, supplies, progress=progress)

    def tag(self, image_id: str, reference: str) -> None:
        """Give an image a further name."""
        images.tag(self._connection, image_id, reference)

    def remove(self, reference: str) -> None:
        """Remove an image, or just a name of it; with an image built by this object, all that its build made."""
        images.remove(self._connection, reference, parents=not self._builds.made(reference))
        self._builds.undo(reference)

    def push(self, reference: str, *, progress: Progress) -> str:
        """Push, and return the manifest digest; raises ``RegistryError``."""
        from envlock.adapters.engine import transfers

        return transfers.push(self._connection, reference, progress=progress)

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
        """Run a command in a new container of the image as its own user, and return its exit code."""
        from envlock.adapters.engine import job

        return job.run(
            self._connection, image, argv, env=env, volumes=volumes, network=network, gpus=gpus, on_output=on_output
        )
