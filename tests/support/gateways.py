"""Gateways without an engine: the agent in a process of its own, and the server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from envlock.adapters.gateway import Gateway, agent_source, serve_on_loopback
from envlock.errors import EnvlockError
from envlock.ports import Handler


@dataclass
class Served:
    """A gateway that answers at a port of 127.0.0.1."""

    port: int
    failure: Callable[[], EnvlockError | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def agent_process(
    handler: Handler | None, *, python: str = sys.executable
) -> Iterator[tuple[Served, subprocess.Popen[bytes]]]:
    source = agent_source()
    assert "PORT = 8629" in source
    process = subprocess.Popen(
        [python, "-I", "-S", "-c", source.replace("PORT = 8629", "PORT = 0")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    output = os.fdopen(os.dup(process.stdout.fileno()), "rb")
    gateway = Gateway(handler, receive=output.read, send=process.stdin.write)
    gateway.start()
    try:
        assert gateway.wait_ready(20), process.stderr.read()
        assert gateway.greeting
        yield Served(gateway.greeting["port"], gateway.answers.failure), process
    finally:
        process.stdin.close()
        process.wait(20)
        complaint = process.stderr.read()
        for file in (process.stdout, process.stderr, output):
            file.close()
    assert complaint == b""


@contextmanager
def through_agent(handler: Handler) -> Iterator[Served]:
    with agent_process(handler) as (served, _):
        yield served


@contextmanager
def through_loopback(handler: Handler) -> Iterator[Served]:
    with serve_on_loopback(handler) as server:
        yield Served(int(server.url.rpartition(":")[2]), server.handler_error)
