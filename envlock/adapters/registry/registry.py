"""``ports.Registry`` over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from urllib.parse import urlsplit

from envlock.adapters.docker_login import Credentials
from envlock.adapters.registry import manifests
from envlock.adapters.registry.client import Blob, Client
from envlock.errors import InputError, RegistryError
from envlock.formats.hosts import is_loopback
from envlock.formats.reference import DEFAULT_REGISTRY, Reference, parse_reference
from envlock.ports import Manifest

MANIFEST_LIMIT = 4 << 20  # bytes; what registries accept (OCI distribution spec, pushing manifests)
CONFIG_LIMIT = 16 << 20  # bytes


class HttpRegistry:
    """The registries that references name, asked from this machine.

    ``environment`` says where Docker's credentials are (``DOCKER_CONFIG``, ``HOME``); ``mirrors`` gives the URLs of
    mirrors of the default registry, which are asked first. Proxies and CAs are those of this process
    (``HTTPS_PROXY``, ``REQUESTS_CA_BUNDLE``).
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        mirrors: Callable[[], Sequence[str]] = tuple,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._credentials = Credentials(environment)
        self._mirrors = mirrors
        self._pause = pause

    def manifest(self, reference: str, *, platform: str) -> Manifest:
        """Resolve a tag or digest; raises ``UnknownImage``, ``InputError`` (other platform) or ``RegistryError``."""
        name = parse_reference(reference)
        for base in self._mirrors_of(name):
            client = Client(name.registry, self._credentials, pause=lambda _: None, base=base)
            with closing(client):
                try:
                    return _manifest(client, name, platform)
                except (RegistryError, InputError):
                    continue  # a mirror has what it has: the registry itself has the last word
        client = Client(name.registry, self._credentials, pause=self._pause)
        with closing(client):
            return _manifest(client, name, platform)

    def _mirrors_of(self, name: Reference) -> list[str]:
        if name.registry != DEFAULT_REGISTRY:
            return []
        found = [url.rstrip("/") for url in self._mirrors()]
        return [url for url in found if url.startswith("https://") or is_loopback(urlsplit(url).hostname or "")]


def _manifest(client: Client, name: Reference, platform: str) -> Manifest:
    def get(target: str) -> tuple[Blob, dict[str, object], str]:
        found = client.get(name.path, "manifests", target, accept=manifests.ACCEPT, limit=MANIFEST_LIMIT)
        data = manifests.read_json(found.content, str(name))
        return found, data, manifests.kind_of(data, found.content_type, str(name))

    index_digest = None
    blob, data, kind = get(name.target)
    if kind == "index":
        index_digest = blob.digest
        blob, data, kind = get(manifests.choose(data, platform, str(name)).digest)
        if kind != "manifest":
            raise RegistryError(f"{name} is an index of indexes", hint="pin the image by its own digest")
    config, layers = manifests.contents(data, str(name))
    content = client.get(name.path, "blobs", config.digest, limit=CONFIG_LIMIT).content
    image = manifests.read_config(content, f"the configuration of {name}")
    if index_digest is None:
        manifests.check_platform(image, platform, str(name))
    if len(image.diff_ids) != len(layers):
        raise RegistryError(f"{name} has {len(layers)} layers, and its configuration says {len(image.diff_ids)}")
    return Manifest(
        repository=name.name,
        index_digest=index_digest,
        digest=blob.digest,
        config=config,
        layers=layers,
        diff_ids=image.diff_ids,
        env=image.env,
    )
