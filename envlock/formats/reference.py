"""Image references, as ``docker`` reads them (distribution/reference grammar: domain, path, tag, digest)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from envlock.errors import InputError

# The names that the grammar itself gives to an image without a registry; not an address of anything.
DEFAULT_REGISTRY = "docker.io"
_OFFICIAL = "library"
_OLD_DEFAULT = "index.docker.io"

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_NAME = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """What names an image in a registry."""

    registry: str  # host[:port], "docker.io" where none was given
    path: str  # "library/python", "team/app"
    tag: str | None = None
    digest: str | None = None  # "sha256:<hex>"

    @property
    def repository(self) -> str:
        """Return registry and path in full: what to compare repositories by."""
        return f"{self.registry}/{self.path}"

    @property
    def name(self) -> str:
        """Return the repository in the short form that people and engines use: "python", "host:5000/team/app"."""
        if self.registry != DEFAULT_REGISTRY:
            return self.repository
        short = self.path.removeprefix(f"{_OFFICIAL}/") if self.path.count("/") == 1 else self.path
        return short if _split_registry(short) == (self.registry, self.path) else self.repository

    @property
    def target(self) -> str:
        """Return what a registry is asked for: the digest, else the tag, else "latest"."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Read ``[registry/]path[:tag][@digest]``; raises ``InputError`` where it is not a reference."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _refused(text, "a digest is sha256: and 64 hexadecimal digits")
    name, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _refused(text, "a tag is letters, digits, '_', '.' and '-', 128 at most")
    registry, path = _split_registry(name)
    if not _DOMAIN.fullmatch(registry):
        raise _refused(text, "a registry is host or host:port")
    if not _PATH.fullmatch(path):
        raise _refused(text, "a repository is lower-case letters, digits, and '.', '_', '-' or '/' between them")
    if len(name) > _LONGEST_NAME:
        raise _refused(text[:60] + "…", f"a name has {_LONGEST_NAME} characters at most")
    return Reference(registry=registry, path=path, tag=tag, digest=digest or None)


def _split_tag(text: str) -> tuple[str, str | None]:
    head, colon, tail = text.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (text, None)


def _split_registry(name: str) -> tuple[str, str]:
    """Tell the registry from the path: it has a "." or ":", or is "localhost", or has a capital letter."""
    first, slash, rest = name.partition("/")
    if slash and (any(sign in first for sign in ".:") or first == "localhost" or first.lower() != first):
        registry, path = first, rest
    else:
        registry, path = DEFAULT_REGISTRY, name
    if registry == _OLD_DEFAULT:
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"{_OFFICIAL}/{path}"
    return registry, path


def _refused(text: str, why: str) -> InputError:
    return InputError(f"{text!r} is not an image reference", hint=why)
