"""Why apt could not, in words for people."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from envlock.errors import AptError, EnvlockError, Unresolvable
from envlock.formats.debian import version_key
from envlock.lock.apt_repositories import Repository
from envlock.lock.apt_tool import AptFailed, AptTool
from envlock.model.spec import AptRequest

_NEAREST = 5  # names or versions that a message lists


def settle_names(tool: AptTool, packages: Sequence[AptRequest], *, base: str) -> tuple[AptRequest, ...]:
    """Hold the requests against what the repositories have; return them with real names in the place of virtual ones.

    Raises ``Unresolvable`` with all that is missing.

    Before apt-get is asked: it would take a name that it does not know for a regular expression or, with a ``-`` at its
    end, for a package to remove.
    """
    available = tool.versions(request.name for request in packages)
    names: tuple[str, ...] = ()
    settled: list[AptRequest] = []
    faults: list[str] = []
    for request in packages:
        versions = available.get(request.name, ())
        providers = tool.providers(request.name) if request.version is None and not versions else ()
        if versions and request.version in (None, *versions):
            settled.append(request)
        elif versions:
            faults.append(_no_version(request, versions))
        elif len(providers) == 1:
            settled.append(AptRequest(name=providers[0]))
        elif providers:
            faults.append(f"{request.name} is a virtual package; take one of {', '.join(providers)}")
        else:
            names = names or tool.names()
            faults.append(_no_package(request, names))
    if faults:
        known = any(request.name in available for request in packages if request.version is not None)
        many = f"{len(faults)} apt packages are not to be had for the base {base}"
        raise Unresolvable(
            faults[0] if len(faults) == 1 else many,
            hint=_HINTS["version" if known else "name"],
            details=faults if len(faults) > 1 else (),
        )
    return tuple(settled)


_HINTS = {
    "version": "take one of the versions that there are, or a date at which the archive had it (as_of)",
    "name": "correct the name, or add the repository that has it under apt.repositories",
}


def _no_version(request: AptRequest, versions: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(str(request.version), versions, n=_NEAREST, cutoff=0)
    nearest.sort(key=version_key, reverse=True)
    return f"apt has no {request.name} {request.version}; it has {', '.join(nearest)}"


def _no_package(request: AptRequest, names: Sequence[str]) -> str:
    plain, _, architecture = request.name.partition(":")
    if architecture and plain in names:
        return f"apt has no package {request.name}; it has {plain} for other architectures"
    similar = difflib.get_close_matches(plain, names, n=_NEAREST, cutoff=0.75)
    return f"apt has no package {request.name}" + (f"; there is {', '.join(similar)}" if similar else "")


def conflict(packages: Sequence[AptRequest], failed: AptFailed) -> Unresolvable:
    """Return the error for requests that apt cannot meet together, with apt's own explanation."""
    return Unresolvable(
        f"apt cannot install {', '.join(map(str, packages))} together on this base",
        hint="loosen a version, or leave out one of the packages that apt names",
        details=failed.lines,
    )


def update_failed(failed: AptFailed, repositories: Sequence[Repository], *, cause: EnvlockError | None) -> EnvlockError:
    """Return the error for repositories that cannot be read; ``cause`` is what this machine met while fetching."""
    if cause is not None:
        return cause
    text = "\n".join(failed.lines)
    name = _named_in(text, repositories)
    for pattern, message, hint in _REASONS:
        if re.search(pattern, text):
            return AptError(message.format(name=name), hint=hint, details=failed.lines)
    return AptError(f"apt cannot read {name}", details=failed.lines)


_REASONS = (
    (
        r"is expired|Release file .* expired",
        "the indexes of {name} have expired: its server has not been brought up to date for long",
        "name a current mirror in ENVLOCK_APT_MIRROR, or a snapshot with as_of",
    ),
    (r"not valid yet", "the indexes of {name} are of a time to come", "check the clock of the engine's machine"),
    (
        r"(?:gpgv|sqv).*(?:not found|not installed|[Cc]ould not execute)|Unknown error executing",
        "the base cannot check signatures, so that {name} cannot be trusted",
        "install gpgv (or sqv) in the base",
    ),
    (
        (
            r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|Missing key|verification failed|not trusted"
            r"|invalid since|[Ss]igning key|unsupported filetype|[Nn]o good signature"
        ),
        "the signature of {name} cannot be verified with the keys that are there for it",
        "use the base's current image, which has the archive's new keys, or the right key file for the repository",
    ),
    (
        r"does not have a Release file|\b404\b",
        "{name} is not there: the server has no such archive or suite",
        "check uri and suite; a release that is no longer supported moves to an archive server: ENVLOCK_APT_MIRROR",
    ),
    (
        r"Hash Sum mismatch|unexpected size|Mirror sync in progress",
        "the indexes of {name} are not what its signed Release file says",
        "the mirror may be in the middle of an update: try again in a few minutes",
    ),
)


def _named_in(text: str, repositories: Sequence[Repository]) -> str:
    """Return which repositories a message is about."""
    names = dict.fromkeys(
        repository.name
        for repository in repositories
        if f"{repository.uri} {repository.entry.suite} " in f"{text} "
        or f"{repository.uri}/dists/{repository.entry.suite}/" in text
    )
    if len(names) == 1:
        return f"the apt repository {next(iter(names))}"
    return f"the apt repositories {', '.join(names)}" if names else "an apt repository"
