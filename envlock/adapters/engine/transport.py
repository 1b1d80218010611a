"""Ways to the engine for the SDK's client: a Unix socket, or ssh.

The SDK's own ssh way needs paramiko even where it only calls the ssh program, and gives half of a pipe for a socket,
which cannot carry two-way streams; its Unix way leaks the socket of each failed try.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from typing import IO
from urllib.parse import unquote, urlsplit

from docker.transport.basehttpadapter import BaseHTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from envlock.errors import EngineError

Opener = Callable[[], tuple[socket.socket, Callable[[], None]]]  # a connected socket, and what to do after closing it


class _Connection(HTTPConnection):
    def __init__(self, opener: Opener) -> None:
        super().__init__("localhost")
        self._opener = opener
        self._afterwards: Callable[[], None] | None = None

    def connect(self) -> None:
        self.sock, self._afterwards = self._opener()

    def close(self) -> None:
        super().close()
        afterwards, self._afterwards = self._afterwards, None
        if afterwards is not None:
            afterwards()


class _Pool(HTTPConnectionPool):
    def __init__(self, opener: Opener) -> None:
        super().__init__("localhost", maxsize=10)
        self._opener = opener

    def _new_conn(self) -> HTTPConnection:
        return _Connection(self._opener)


class SocketAdapter(BaseHTTPAdapter):
    """A transport for ``docker.APIClient``, to be mounted on ``http+docker://``; ``opener`` connects."""

    def __init__(self, opener: Opener) -> None:
        self._pool = _Pool(opener)
        super().__init__()

    def get_connection(self, url: str | bytes, proxies: object = None) -> HTTPConnectionPool:  # noqa: ARG002 - the SDK's signature
        """Return the one pool that there is."""
        return self._pool

    def request_url(self, request: object, proxies: object) -> str:  # noqa: ARG002 - the SDK's signature
        """Return the path: there is no proxy on this way."""
        return str(request.path_url)  # type: ignore[attr-defined]

    def close(self) -> None:
        """End all idle connections."""
        super().close()
        self._pool.close()


def unix_opener(url: str, *, timeout: float) -> Opener:
    """Connect to ``unix://PATH``; ``timeout`` in seconds."""
    path = unquote(url.removeprefix("unix://"))

    def connect() -> tuple[socket.socket, Callable[[], None]]:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(path)
        except BaseException:
            connection.close()
            raise
        return connection, lambda: None

    return connect


class Ssh:
    """An engine behind ssh: each connection is ``ssh HOST docker system dial-stdio``, as Docker's own are."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - what ssh says on stderr, as long as we live

    def connect(self) -> tuple[socket.socket, Callable[[], None]]:
        """Start an ssh program whose stdin and stdout are a real socket to us."""
        program = shutil.which("ssh")
        if program is None:
            raise EngineError(
                f"the engine is at {self._url}, and there is no ssh program here", hint="install an ssh client"
            )
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C in the terminal must not cut the line that we clean up by.
            process = subprocess.Popen(
                [program, *command_for(self._url)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._complaints.fileno(),
                start_new_session=True,
            )

        def end() -> None:
            process.terminate()
            process.wait()

        return ours, end

    def complaint(self) -> str:
        """Return the last line that ssh said (a refused key, an unknown host, no docker on the other side)."""
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """Forget what ssh said."""
        self._complaints.close()


def command_for(url: str) -> list[str]:
    """Return ssh's arguments for ``ssh://[user@]host[:port]``."""
    parts = urlsplit(url)
    argv = ["-T"]
    if parts.username:
        argv += ["-l", unquote(parts.username)]
    if parts.port:
        argv += ["-p", str(parts.port)]
    return [*argv, "--", parts.hostname or "", "docker", "system", "dial-stdio"]
