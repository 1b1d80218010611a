"""``show``: what is known of an environment, from wherever it can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envlock.errors import EngineError, InputError, LockError
from envlock.formats.debian import DebianFormatError, installed_packages, parse_os_release
from envlock.formats.display import one_line
from envlock.formats.environments import environment_of_live, environment_of_lock, split_env
from envlock.formats.lock_json import fingerprint, load_lock
from envlock.formats.probe import SCRIPT, Probed, parse_probe
from envlock.formats.secrets import hide
from envlock.model.environment import Environment
from envlock.model.lock import Lock
from envlock.model.plan import FINGERPRINT_LABEL, METADATA, VENV
from envlock.ports import Container, Engine, EngineImage

__all__ = ["environment_of_image", "environment_of_live", "environment_of_lock"]

_LOCK = f"{METADATA}/envlock.lock"
_PYTHONS = (f"{VENV}/bin/python", "python", "python3")
_BASE = "org.opencontainers.image.base"
_NOT_FOUND = frozenset({126, 127})  # ports.Container.run: a program that cannot be started


def environment_of_image(reference: str, *, engine: Engine, title: str) -> Environment:
    """Return an image's environment: from the lock that it carries, else from what is found inside it.

    Raises ``InputError`` for an image that the engine does not have, ``EngineError`` where the engine fails.
    """
    image = find_image(reference, engine=engine)
    try:
        with engine.container(image.id) as container:
            lock = embedded_lock(image, container)
            return (
                _from_lock(image, lock, reference, title)
                if lock is not None
                else _from_inside(image, container, reference, title)
            )
    except InputError:
        return _from_outside(
            image, reference, title
        )  # no Python inside: the image's configuration is all that can be said


def find_image(reference: str, *, engine: Engine) -> EngineImage:
    """Return an image of the engine; raises ``InputError`` where it has none of this name."""
    image = engine.find(reference)
    if image is None:
        raise InputError(
            f"the engine has no image {reference!r}", hint=f"docker pull {reference}, or build it with 'envlock build'"
        )
    return image


def embedded_lock(image: EngineImage, container: Container) -> Lock | None:
    """Return the lock that an image carries, if the image is the one that was built from it."""
    content = container.read(_LOCK)
    label = image.labels.get(FINGERPRINT_LABEL)
    if content is None or label is None:
        return None
    try:
        lock = load_lock(content, file=_LOCK)
    except LockError:
        return None
    return lock if fingerprint(lock) == label else None


def _from_lock(image: EngineImage, lock: Lock, reference: str, title: str) -> Environment:
    locked = environment_of_lock(lock, title=title)
    return _merge(_from_outside(image, reference, title), locked)


def _merge(outside: Environment, locked: Environment) -> Environment:
    """Return the lock's word on what was installed, and the image's own on how it is configured."""
    scope = {group: scope for group, scope in locked.scope.items() if group not in {"env", "labels"}}
    return Environment(
        title=outside.title,
        kind="image",
        fingerprint=locked.fingerprint,
        platform=locked.platform,
        base=locked.base,
        os=locked.os,
        python=locked.python,
        cuda=locked.cuda,
        apt=locked.apt,
        pip=locked.pip,
        hashes=locked.hashes,
        env=outside.env,
        seeds=outside.seeds,
        labels=outside.labels,
        image=outside.image,
        scope=scope,
    )


def _from_outside(image: EngineImage, reference: str, title: str) -> Environment:
    env, seeds = split_env(image.env)
    digests = [digest.partition("@")[2] for digest in image.digests]
    tag = reference if reference in image.tags else next(iter(image.tags), "")
    names = {"reference": tag, "manifest_digest": digests[0] if digests else ""}
    name = image.labels.get(f"{_BASE}.name")
    return Environment(
        title=title,
        kind="image",
        platform=image.platform,
        base={"reference": name, "digest": image.labels.get(f"{_BASE}.digest", "")} if name else None,
        env=env,
        seeds=seeds,
        labels=dict(image.labels),
        image={"image_id": image.id, **{key: value for key, value in names.items() if value}},
    )


def _from_inside(image: EngineImage, container: Container, reference: str, title: str) -> Environment:
    outside = _from_outside(image, reference, title)
    probed = _probe(container)
    return Environment(
        title=title,
        kind="image",
        platform=outside.platform,
        base=outside.base,
        os=_os(container),
        python=probed.python if probed else None,
        cuda=_cuda(image.env, probed),
        apt=_apt(container),
        pip=probed.packages if probed else None,
        env=outside.env,
        seeds=outside.seeds,
        labels=outside.labels,
        image=outside.image,
        scope={"cuda": "some"},
    )


def _probe(container: Container) -> Probed | None:
    answers = (_ask(python, container) for python in _PYTHONS)
    return next((answer for answer in answers if answer is not None), None)


def _ask(python: str, container: Container) -> Probed | None:
    """Return what a Python says, or None where there is none of this name."""
    # not in the working folder, whose files could be taken for modules of the same name
    done = container.run([python, "-c", SCRIPT], workdir="/")
    if done.exit_code in _NOT_FOUND:
        return None
    if done.exit_code != 0:
        raise EngineError(f"{python} in the image cannot say what is installed", details=_last_lines(done.stderr))
    try:
        return parse_probe(done.stdout)
    except ValueError as error:
        raise EngineError(f"{python} in the image cannot be asked what is installed: {error}") from error


def _last_lines(output: bytes) -> list[str]:
    return output.decode(errors="replace").strip().splitlines()[-5:]


def _cuda(env: Mapping[str, str], probed: Probed | None) -> dict[str, str] | None:
    version = (probed.cuda if probed else None) or env.get("CUDA_VERSION")
    return {"version": version} if version else None


def _os(container: Container) -> str | None:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        content = container.read(path)
        if content is not None:
            return parse_os_release(content.decode(errors="replace")).get("PRETTY_NAME")
    return None


def _apt(container: Container) -> dict[str, str] | None:
    status = container.read("/var/lib/dpkg/status")
    if status is None:
        return None
    try:
        installed = installed_packages(status.decode(errors="replace"))
    except DebianFormatError as error:
        raise EngineError(f"dpkg's database in the image is damaged: {error}") from error
    return {package.name: package.version for package in installed}


# --- reports ----------------------------------------------------------------------------------------------------------

_LISTS = ("apt", "pip", "env", "seeds", "labels")
_ADDED = {"added": " (added to the base)", "some": " (as far as it was logged)"}


def as_json(environment: Environment) -> dict[str, Any]:
    """Return an environment as ``show --json`` prints it; a member that is null is not known."""
    return {
        "ref": environment.title,
        "kind": environment.kind,
        "fingerprint": environment.fingerprint,
        "image": dict(environment.image),
        "platform": environment.platform,
        "base": _plain(environment.base),
        "os": environment.os,
        "python": environment.python,
        "cuda": _plain(environment.cuda),
        "apt": _plain(environment.apt),
        "pip": _plain(environment.pip),
        "hashes": _plain(environment.hashes),
        "env": None if environment.env is None else hide(environment.env),
        "seeds": _plain(environment.seeds),
        "labels": _plain(environment.labels),
        "scope": dict(environment.scope),
    }


def as_text(environment: Environment) -> str:
    """Return an environment for people."""
    lines = [f"{environment.kind} {environment.title}", "", *_head(environment)]
    for group in _LISTS:
        entries: Mapping[str, str] | None = getattr(environment, group)
        if not entries:
            continue
        note = _ADDED.get(environment.scope.get(group, "all"), "")
        width = max(map(len, entries))
        shown = hide(entries) if group == "env" else entries
        lines += ["", f"{group}: {len(entries)}{note}"]
        lines += [f"  {name:<{width}}  {one_line(shown[name])}" for name in sorted(shown)]
    unknown = [group for group in ("os", "python", "cuda", *_LISTS) if getattr(environment, group) is None]
    if unknown:
        lines += ["", f"not known: {', '.join(unknown)}"]
    return "\n".join(lines) + "\n"


def _head(environment: Environment) -> Iterator[str]:
    base, cuda, image = environment.base or {}, environment.cuda, environment.image
    rows = {
        "fingerprint": environment.fingerprint,
        "image": image.get("reference"),
        "image ID": image.get("image_id"),
        "manifest": image.get("manifest_digest"),
        "platform": environment.platform,
        "base": " ".join(filter(None, (base.get("reference"), base.get("digest")))),
        "OS": environment.os,
        "Python": environment.python,
        "CUDA": "none" if cuda == {} else ", ".join(f"{name} {value}" for name, value in (cuda or {}).items()),
    }
    for name, value in rows.items():
        if value:
            yield f"{name:<12} {one_line(value, longest=200)}"


def _plain(value: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if value is None else dict(sorted(value.items()))
