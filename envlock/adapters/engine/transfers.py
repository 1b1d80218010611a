"""Pulling and pushing: the engine's stream of progress, and the registries' complaints in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from envlock.adapters.engine.connection import Connection
from envlock.adapters.engine.failures import Translate, disk_full, explanation, is_disk_full
from envlock.errors import EnvlockError, InputError, RegistryError, UnknownImage
from envlock.formats.reference import Reference, parse_reference
from envlock.formats.urls import scrub
from envlock.ports import Progress, Task

_UNKNOWN = re.compile(
    r"manifest unknown|not found|name unknown|repository does not exist|no such manifest|notary.*no trust",
    re.IGNORECASE,
)
_PLATFORM = re.compile(
    r"no matching manifest|does not match the specified platform|no match for platform", re.IGNORECASE
)
_DENIED = re.compile(
    r"denied|unauthori[sz]ed|authentication required|no basic auth|forbidden|credential|status(?: code)?:? 40[13]",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(r"toomanyrequests|too many requests|rate limit", re.IGNORECASE)
_PLAIN_HTTP = re.compile(r"server gave HTTP response to HTTPS client", re.IGNORECASE)
_CERTIFICATE = re.compile(r"x509|certificate", re.IGNORECASE)
_BROKEN = re.compile(r"status(?: code)?:? 5\d\d", re.IGNORECASE)
_UNREACHABLE = re.compile(
    r"dial tcp|connection refused|connection reset|no such host|timeout|timed out|unreachable|\bEOF\b"
    r"|proxyconnect|deadline exceeded|canceled while waiting",
    re.IGNORECASE,
)


def push(connection: Connection, reference: str, *, progress: Progress) -> str:
    """Push a tag, and return the manifest digest that the registry acknowledged."""
    name = parse_reference(reference)
    title = f"Pushing {name}"
    login = connection.login(name.registry)
    with connection.fresh() as api, connection.reported(title, also=registry_refusal(name, doing="push")):
        answers = api.push(name.name, tag=name.target, stream=True, decode=True, auth_config=login)
        last = transfer(answers, name, doing="push", title=title, active=("Pushing",), progress=progress)
    digest = last.get("Digest")
    if not digest:
        raise RegistryError(f"{name.registry} took {name}, and did not say under which digest", hint="try again")
    return str(digest)


def transfer(
    answers: Iterable[Mapping[str, Any]],
    name: Reference,
    *,
    doing: str,
    title: str,
    active: tuple[str, ...],
    progress: Progress,
) -> Mapping[str, Any]:
    """Follow a stream of answers to its end; return the last ``aux`` in it, raise the error that it holds."""
    aux: Mapping[str, Any] = {}
    done: dict[str, int] = {}
    with progress.task(title, unit="B") as task:
        for answer in answers:
            if words := answer.get("error") or (answer.get("errorDetail") or {}).get("message"):
                raise refused_by_registry(str(words), name, doing=doing)
            aux = answer.get("aux") or aux
            if answer.get("status") in active:
                _advance(answer, done, task)
    return aux


def _advance(answer: Mapping[str, Any], done: dict[str, int], task: Task) -> None:
    layer = str(answer.get("id", ""))
    current = int((answer.get("progressDetail") or {}).get("current") or 0)
    if current > done.get(layer, 0):
        task.advance(current - done.get(layer, 0))
        done[layer] = current
        task.note(layer)


def registry_refusal(name: Reference, *, doing: str) -> Translate:
    """Return the translation of what the engine answers while it talks to a registry for us."""
    return lambda error: refused_by_registry(explanation(error), name, doing=doing)


def refused_by_registry(words: str, name: Reference, *, doing: str) -> EnvlockError:
    """Return the error for the words of a registry, or of the engine about one; ``doing``: pull, push or read."""
    words = scrub(" ".join(words.split()))
    if is_disk_full(words):
        return disk_full(f"{doing} of {name}", words)
    if doing == "push" and "not exist locally" in words:
        return UnknownImage(f"the engine has no image {name}", hint="build it with `envlock build`")
    if doing != "push" and _PLATFORM.search(words):
        return InputError(
            f"{name} does not exist for this platform: {words}", hint="choose another image or `platform`"
        )
    if doing != "push" and _UNKNOWN.search(words) and "no such host" not in words:
        return UnknownImage(
            f"{name.registry} has no {name} that we may see",
            hint=f"check its name and tag; if it is private: `docker login{_argument(name)}`",
            details=[words],
        )
    for pattern, message, hint in _REFUSALS:
        if pattern.search(words):
            return RegistryError(
                message.format(registry=name.registry, doing=doing, name=name),
                hint=hint.format(login=f"docker login{_argument(name)}", registry=name.registry),
                details=[words],
            )
    return RegistryError(f"{doing} of {name} failed: {words}")


_REFUSALS = (
    (_TOO_MANY, "{registry} has enough of us for now", "wait, log in (`{login}`), or use a mirror of it"),
    (
        _PLAIN_HTTP,
        "{registry} speaks plain HTTP, which the engine refuses",
        "give the registry a certificate, or name it under `insecure-registries` in the engine's daemon.json",
    ),
    (
        _CERTIFICATE,
        "the engine does not trust the certificate of {registry}",
        "put its CA into /etc/docker/certs.d/{registry}/ca.crt on the engine's machine",
    ),
    (_DENIED, "{registry} does not let us {doing} {name}", "log in: `{login}`; is the account allowed to?"),
    (_BROKEN, "{registry} failed by a fault of its own", "try again; if it stays, the registry's log says more"),
    (
        _UNREACHABLE,
        "the engine cannot reach {registry}",
        "is it running, and can the engine's machine reach it? (the engine's own proxy settings count, not yours)",
    ),
)


def _argument(name: Reference) -> str:
    return "" if name.registry == parse_reference("x").registry else f" {name.registry}"
