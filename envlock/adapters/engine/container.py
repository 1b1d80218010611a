"""A short-lived container without a network, whose first process is the gateway's agent."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import docker.errors

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.failures import explanation
from envlock.adapters.engine.files import archive_of, entries_of, tar_of
from envlock.adapters.engine.lines import Lines
from envlock.adapters.engine.streams import STDERR, hijack
from envlock.adapters.gateway import Gateway
from envlock.errors import EngineError, EnvlockError
from envlock.ports import Completed

_SYMLINK = 1 << 27  # Go's os.ModeSymlink, in what the engine says of a path
_LINKS = 40  # as the kernel's limit


class GatewayContainer:
    """A running container; see ``ports.Container``."""

    def __init__(self, connection: Connection, container_id: str, gateway: Gateway) -> None:
        self._connection = connection
        self._id = container_id
        self._gateway = gateway
        greeting = gateway.greeting or {}
        self.python = str(greeting.get("executable", ""))

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a program to its end (Engine API, exec)."""
        self._gateway.answers.forget()
        api = self._connection.api
        with self._connection.reported(f"running {argv[0]} in a container", also=self._explained):
            created = api.exec_create(
                self._id, list(argv), environment=dict(env or {}), user=user, workdir=workdir or None, stdin=False
            )["Id"]
            stdout, stderr = Lines(on_line), Lines(on_line)
            duplex = hijack(api, f"/exec/{created}/start", body={"Detach": False, "Tty": False})
            try:
                for stream, data in duplex.frames():
                    (stderr if stream == STDERR else stdout).add(data)
            finally:
                duplex.close()
            stdout.finish()
            stderr.finish()
            return Completed(exit_code=self._exit_code(created), stdout=stdout.content, stderr=stderr.content)

    def _exit_code(self, created: str) -> int:
        """Return the exit code; the engine may need a moment after the end of the output to know it."""
        for _ in range(100):
            state = self._connection.api.exec_inspect(created)
            if not state["Running"] and state["ExitCode"] is not None:
                return int(state["ExitCode"])
            if self._gateway.ended:
                break
            time.sleep(0.05)
        raise self._lost()

    def put(self, files: Mapping[str, bytes | Path], *, executable: Iterable[str] = ()) -> None:
        """Write files."""
        with self._connection.reported("writing files into a container", also=self._explained):
            self._connection.api.put_archive(self._id, "/", tar_of(files, executable=executable))

    def read(self, path: str) -> bytes | None:
        """Return a regular file's bytes, or None."""
        with self._connection.reported("reading a file of a container", also=self._explained):
            real = self._follow(path)
            if real is None:
                return None
            with archive_of(self._connection.api, self._id, real) as (_, blocks):
                for _, _, content in entries_of(blocks):
                    return content.read() if content is not None else None
        return None

    def files(self, path: str) -> Iterator[tuple[str, bytes]]:
        """Yield (relative path, bytes) of every regular file below a folder."""
        with self._connection.reported("reading files of a container", also=self._explained):
            real = self._follow(path)
            if real is None:
                return
            with archive_of(self._connection.api, self._id, real) as (_, blocks):
                for name, entry, content in entries_of(blocks):
                    if name and content is not None:
                        yield name, content.read()
                    elif entry.islnk() and (twin := self.read(posixpath.join(real, name))) is not None:
                        yield name, twin

    def handler_error(self) -> EnvlockError | None:
        """Return what the handler failed with since the last ``run`` began."""
        return self._gateway.answers.failure()

    def _follow(self, path: str) -> str | None:
        """Return the real path, or None: the engine follows links in the folders above, the last one is ours."""
        for _ in range(_LINKS):
            try:
                with archive_of(self._connection.api, self._id, path) as (stat, _):
                    if not stat["mode"] & _SYMLINK:
                        return path
                    path = stat["linkTarget"]
            except docker.errors.NotFound:
                self._alive()
                return None
            except docker.errors.APIError as error:
                if "too many links" in explanation(error):
                    return None
                raise
        return None

    def _alive(self) -> None:
        if self._gateway.ended:
            raise self._lost()

    def _lost(self) -> EngineError:
        return EngineError(
            "the container ended while it was in use",
            hint="was it killed, was memory short, or was the engine restarted?",
        )

    def _explained(self, error: docker.errors.APIError) -> EnvlockError | None:
        status = getattr(error.response, "status_code", 0)
        if self._gateway.ended or (status in (404, 409) and "container" in explanation(error).lower()):
            return self._lost()
        return None
