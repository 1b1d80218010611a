"""An image as the engine packs it for another one (Engine API, "export an image": what ``docker save`` writes)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import IO
from urllib.parse import quote

import requests
from docker.errors import create_api_error_from_http_exception

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.failures import no_image
from envlock.adapters.engine.files import stream_of

_BLOCK = 1 << 20


@contextmanager
def saved(connection: Connection, image: str) -> Iterator[IO[bytes]]:
    """Give the tar while the engine packs it; what is not read is not packed any more.

    The SDK's own way leaves the connection open where the archive is not read to its end.
    """
    with connection.fresh() as api, connection.reported(f"packing {image}", also=no_image(image)):
        response = api.get(
            f"{api.base_url}/v{api.api_version}/images/{quote(image, safe=':@/')}/get",
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
