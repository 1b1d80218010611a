"""An image's whole file system, as one tar (Engine API, "export a container")."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import IO

import requests
from docker.errors import create_api_error_from_http_exception

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.ending import discard
from envlock.adapters.engine.failures import no_image
from envlock.adapters.engine.files import stream_of
from envlock.errors import EngineError

_BLOCK = 1 << 20


@contextmanager
def tree(connection: Connection, image: str) -> Iterator[IO[bytes]]:
    """Give the file system of a container that is made of the image and never started.

    All layers are laid over each other by the engine itself, from the files that its containers would get. A few
    entries are the engine's own (``tree.ENGINES_OWN``).
    """
    api = connection.api
    name = f"envlock-{secrets.token_hex(8)}"
    try:
        with connection.reported(f"reading the files of {image}", also=no_image(image)):
            api.create_container(
                image=image,
                name=name,
                command=["-"],
                entrypoint=["-"],
                labels={"envlock": "tree"},
                use_config_proxy=False,
            )
            response = api.get(
                f"{api.base_url}/v{api.api_version}/containers/{name}/export",
                headers={"Accept-Encoding": "identity"},
                stream=True,
                timeout=api.timeout,
            )
            with closing(response):
                try:
                    response.raise_for_status()
                except requests.HTTPError as error:
                    raise create_api_error_from_http_exception(error) from error
                yield stream_of(response.iter_content(_BLOCK))
    finally:
        with suppress(EngineError), connection.reported("removing a container"):
            discard(api, name)
