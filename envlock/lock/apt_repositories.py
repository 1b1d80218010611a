"""The repositories that apt resolves against: the base's own and the spec's, as of a date where one is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from envlock.errors import AptError, InputError
from envlock.formats.apt_sources import (
    SourceEntry,
    read_sources,
    render_source,
    snapshot_template,
    snapshot_timestamp,
    snapshot_uri,
)
from envlock.formats.debian import DebianFormatError, architecture, signed_text
from envlock.formats.urls import without_credentials
from envlock.lock.apt_gateway import AptGateway
from envlock.model.lock import AptSource
from envlock.model.spec import AptRepository, Spec
from envlock.ports import AptArchive, GatewayResponse, Progress

_LARGEST_RELEASE = 8 * 1024 * 1024  # bytes
_ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """One repository, and where its files really come from."""

    entry: SourceEntry
    uri: str  # the archive's own, or that of its snapshot
    dated: bool  # a snapshot: its Release file may be long expired
    declared: AptRepository | None = None  # by the spec
    key: bytes = b""

    @property
    def name(self) -> str:
        """Return what the lock calls it."""
        return self.entry.name

    def source(self, components: Sequence[str]) -> AptSource:
        """Return what the lock says of it."""
        return AptSource(
            name=self.name,
            suite=self.entry.suite,
            components=tuple(components),
            uri=self.declared.uri if self.declared else None,
            key_sha256=hashlib.sha256(self.key).hexdigest() if self.declared else None,
        )


def find_repositories(
    spec: Spec, *, keys: Mapping[str, bytes], etc_apt: Mapping[str, bytes], archive: AptArchive, progress: Progress
) -> tuple[Repository, ...]:
    """Return the base's repositories and the spec's, in that order; ``etc_apt``: the files below the base's /etc/apt.

    Raises ``InputError`` where the base's list of repositories cannot be read, and where ``as_of`` is asked of an
    archive that names no snapshot service.
    """
    reserved = {repository.name for repository in spec.apt.repositories}
    try:
        entries = read_sources(etc_apt, architecture=architecture(spec.platform), reserved=reserved)
    except DebianFormatError as error:
        raise InputError(f"the base {spec.base} has a list of apt repositories that cannot be read: {error}") from error
    found = [Repository(entry=entry, uri=entry.uri, dated=False) for entry in entries if entry.reachable]
    for entry in entries:
        if not entry.reachable:
            progress.message(f"apt: the base's repository {entry.name} is not on a network, and is left out")
        elif entry.options.get("trusted", "").lower() in {"yes", "true"}:
            progress.message(f"apt: the base trusts its repository {entry.name} without a signature (Trusted: yes)")
    found += [_declared(repository, keys.get(repository.name, b"")) for repository in spec.apt.repositories]
    if spec.as_of is None:
        return tuple(found)
    return tuple(_as_of(repository, spec, spec.as_of, archive=archive, progress=progress) for repository in found)


def _declared(repository: AptRepository, key: bytes) -> Repository:
    entry = SourceEntry(
        file="",
        uri=repository.uri.rstrip("/"),
        suite=repository.suite,
        components=repository.components,
        options={},
        name=repository.name,
    )
    return Repository(entry=entry, uri=entry.uri, dated=False, declared=repository, key=key)


def _as_of(repository: Repository, spec: Spec, as_of: str, *, archive: AptArchive, progress: Progress) -> Repository:
    try:
        timestamp = snapshot_timestamp(as_of)
    except ValueError as error:
        raise InputError(f"as_of: {error}") from error
    template = spec.apt.snapshot if repository.declared is None else None
    template = template or _template_in_release(repository, archive)
    if template is not None:
        uri = snapshot_uri(template, timestamp=timestamp, uri=repository.entry.uri)
        return replace(repository, uri=uri, dated=True)
    if repository.declared is not None:
        progress.message(
            f"apt: the repository {repository.name} names no snapshot service; its packages are today's, not of {as_of}"
        )
        return repository
    raise InputError(
        f"as_of is {as_of}, but the base's apt repository {repository.name} ({without_credentials(repository.uri)})"
        " names no snapshot service",
        hint="set apt.snapshot to the URL of one, such as https://snapshot.example.org/archive/{archive}/{timestamp}",
    )


def _template_in_release(repository: Repository, archive: AptArchive) -> str | None:
    """Ask the archive's Release file, unchecked: what a wrong answer leads to, has to carry the archive's signature."""
    for url in repository.entry.release_urls:
        answer = archive.open(url, {})
        if answer.status == HTTPStatus.OK:
            try:
                return snapshot_template(signed_text(_content(answer, url)))
            except DebianFormatError as error:
                raise AptError(f"{without_credentials(url)} is no Release file: {error}") from error
        _close(answer)
    return None


def _content(answer: GatewayResponse, url: str) -> str:
    content = bytearray()
    try:
        for chunk in answer.body:
            content += chunk
            if len(content) > _LARGEST_RELEASE:
                raise AptError(f"{without_credentials(url)} has more than {_LARGEST_RELEASE:,} bytes")
    finally:
        _close(answer)
    return content.decode("utf-8", "replace")


def _close(answer: GatewayResponse) -> None:
    close = getattr(answer.body, "close", None)
    if close is not None:
        close()


def apt_files(
    repositories: Sequence[Repository], *, gateway: AptGateway, folder: str
) -> tuple[dict[str, bytes], dict[str, Repository]]:
    """Return the files that make apt use these repositories through the gateway, and the gateway's addresses of them.

    The order of the files is that of the repositories: apt takes a file that two have from the first.
    """
    files: dict[str, bytes] = {}
    routes: dict[str, Repository] = {}
    for number, repository in enumerate(repositories):
        address = gateway.route(repository.uri)
        routes[address] = repository
        options = {name: value for name, value in repository.entry.options.items() if name != "snapshot"}
        if repository.declared is not None:
            suffix = "asc" if repository.key.lstrip().startswith(_ARMOUR) else "gpg"
            options["signed-by"] = f"{folder}/keys/{number}.{suffix}"
            files[options["signed-by"]] = repository.key
        if repository.dated:
            options["check-valid-until"] = "no"
        text = render_source(replace(repository.entry, options=options), uri=address)
        files[f"{folder}/sources/{number:04}.sources"] = text.encode()
    return files, routes
