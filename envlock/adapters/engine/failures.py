"""What the SDK and the transport raise, in our words: what is wrong with which engine, and what to do about it."""

from __future__ import annotations

import errno
import http.client
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import docker.errors
import requests
import urllib3

from envlock.adapters.engine.endpoint import Endpoint
from envlock.errors import EngineError, EnvlockError, InputError
from envlock.formats.urls import scrub

_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_WRONG_PLATFORM = re.compile(r"exec format error", re.IGNORECASE)

_TRANSPORT = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, docker.errors.DockerException)

Translate = Callable[[docker.errors.APIError], EnvlockError | None]


@contextmanager
def reported(
    endpoint: Endpoint, *, doing: str, complaint: Callable[[], str] = str, also: Translate | None = None
) -> Iterator[None]:
    """Turn what the SDK raises into ``EngineError``; ``also`` may know better for an answer of the engine.

    ``complaint`` gives what an ssh program had to say.
    """
    try:
        yield
    except docker.errors.APIError as error:
        raise (also and also(error)) or refused(error, doing=doing) from error
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, EnvlockError):
            raise
        raise unreachable(error, endpoint, doing=doing, complaint=complaint()) from error


def explanation(error: docker.errors.APIError) -> str:
    """Return the engine's own words, in one line, without credentials."""
    words = str(
        error.explanation or error.response.reason if error.response is not None else error.explanation or error
    )
    return scrub(" ".join(words.split()))


def refused(error: docker.errors.APIError, *, doing: str) -> EngineError:
    """Return the error for an answer that the engine gave."""
    words = explanation(error)
    if is_disk_full(words):
        return disk_full(doing, words)
    if _WRONG_PLATFORM.search(words):
        return EngineError(
            f"the engine cannot run programs of this image's platform ({doing})",
            hint="use an engine of that platform, or set up emulation there (binfmt_misc with qemu)",
        )
    return EngineError(f"the engine refused ({doing}): {words}")


def is_disk_full(words: str) -> bool:
    """Return whether these words of the engine, or of a program on it, say that there is no room left."""
    return _NO_SPACE.search(words) is not None


def disk_full(doing: str, words: str, *, details: Sequence[str] = ()) -> EngineError:
    """Return the error for an engine without room."""
    return EngineError(
        f"the engine's disk is full ({doing}): {words}",
        hint="make room on the engine's machine: `docker system df` shows what takes it, `docker image prune` helps",
        details=details,
    )


def unreachable(error: Exception, endpoint: Endpoint, *, doing: str, complaint: str = "") -> EngineError:
    """Return the error for an engine that does not answer, or not so that we understand it."""
    where = f"at {endpoint.host} (chosen by {endpoint.chosen_by})"
    cause = _innermost(error)
    if isinstance(error, docker.errors.InvalidVersion):
        return EngineError(f"the engine {where} is too old: {error}", hint="Docker Engine 20.10 or newer is needed")
    if isinstance(cause, PermissionError):
        return EngineError(
            f"no permission to use the engine {where}",
            hint="join its group (`sudo usermod -aG docker $USER` and log in again), use sudo, or rootless Docker",
        )
    if isinstance(cause, FileNotFoundError | ConnectionRefusedError) or complaint:
        return EngineError(
            f"no Docker engine answers {where}" + (f": {scrub(complaint)}" if complaint else ""),
            hint="start it (`sudo systemctl start docker`), or say where it is: DOCKER_HOST or `docker context use`",
        )
    if isinstance(cause, TimeoutError) or isinstance(error, requests.Timeout):
        return EngineError(
            f"the engine {where} does not answer in time ({doing})",
            hint="is it reachable from here, and not overloaded?",
        )
    if getattr(cause, "errno", None) == errno.ENOSPC:
        return EngineError(f"this machine's disk is full ({doing})")
    words = scrub(" ".join(str(cause).split())) or type(cause).__name__
    return EngineError(
        f"the connection to the engine {where} broke ({doing}): {words}",
        hint="was the engine restarted? when it is back, the same command can simply be run again",
    )


def _innermost(error: BaseException) -> BaseException:
    """Follow an exception to what began it: the SDK and urllib3 wrap the system's error several times."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = (
            error.__cause__ or error.__context__ or next((a for a in error.args if isinstance(a, BaseException)), None)
        )
        inner = inner or getattr(error, "reason", None)
        if not isinstance(inner, _TRANSPORT) or isinstance(inner, EnvlockError):
            break  # beyond is what somebody else was handling when this began
        error = inner
    return error


def no_image(image: str) -> Translate:
    """Return what knows the engine's words for an image that it does not have."""

    def translate(error: docker.errors.APIError) -> InputError | None:
        if isinstance(error, docker.errors.ImageNotFound) or "no such image" in explanation(error).lower():
            return InputError(f"the engine has no image {image}", hint="build it (`envlock build`) or pull it first")
        return None

    return translate
