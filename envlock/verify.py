"""``verify``: an image against its lock, file by file.

What has to be there is known from the base and the layers; what is there, the engine says, out of the files that its
containers would get. Nothing in the image is run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from envlock.errors import InputError
from envlock.formats.display import one_line
from envlock.formats.lock_json import fingerprint, load_lock
from envlock.layers.owners import Owners
from envlock.layers.tree import LOCK, Node, Tree, read_tree
from envlock.model.environment import Finding
from envlock.model.layers import ComposedImage
from envlock.model.lock import Lock
from envlock.model.plan import FINGERPRINT_LABEL, PROJECT_LABEL
from envlock.ports import EngineImage, Progress

OpenTar = Callable[[], AbstractContextManager[IO[bytes]]]

_AGAIN = "build it again with 'envlock build'"


class Trees(Protocol):
    """The part of an engine that says what is in an image."""

    def find(self, reference: str) -> EngineImage | None:
        """Return the image that the engine has by this name."""

    def tree(self, image: str) -> AbstractContextManager[IO[bytes]]:
        """Give the tar of an image's whole file system, all layers laid over each other, hard links as such."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What an image of a lock has to be."""

    base: str  # what the engine calls the base image
    layers: Sequence[OpenTar]  # the tars above it, bottom first
    with_project: bool = False  # the project's files are among them; else the image's label has to do
    config: Mapping[str, Any] = field(default_factory=dict)  # how its containers start (OCI image spec, config)
    again: Again | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """The image, made again from nothing, to compare digests with."""

    image: ComposedImage
    ids: frozenset[str]  # what engines may call it
    whole: bool  # with the project's layer; without it, what is above the other layers is not compared


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What came out."""

    image: EngineImage
    fingerprint: str
    files: int  # that were compared
    findings: tuple[Finding, ...]


def verify(
    reference: str,
    *,
    engine: Trees,
    expectation: Callable[[Lock, EngineImage], Expectation],
    lock: Lock | None = None,
    progress: Progress,
) -> Report:
    """Hold an image against a lock (default: the one that it carries).

    ``expectation`` says what the image of a lock has to be. Raises ``InputError`` for an image that is not there or
    carries no lock, ``LockError``, ``EngineError``, and what making layers raises.
    """
    image = engine.find(reference)
    if image is None:
        raise InputError(f"the engine has no image {reference!r}", hint=f"docker pull {reference}")
    with progress.task(f"Reading the files of {reference}"), engine.tree(image.id) as tar:
        found = read_tree(tar, layer=False)
    lock = lock or _carried_lock(reference, found)
    wanted = expectation(lock, image)
    with progress.task("Reading the files that have to be there"):
        expected = expected_tree(lambda: engine.tree(wanted.base), wanted.layers)
    passed: frozenset[str] = frozenset()
    told: tuple[Finding, ...] = ()
    if not wanted.with_project:
        passed, told = _project(expected, found, lock, image.labels.get(PROJECT_LABEL))
    findings = [
        *_labelled(lock, image),
        *_settings(wanted.config, image),
        *compare_trees(expected, found, passed=passed),
        *told,
        *(compare_digests(wanted.again, image) if wanted.again else ()),
    ]
    return Report(image=image, fingerprint=fingerprint(lock), files=len(found.nodes), findings=tuple(findings))


def _carried_lock(reference: str, found: Tree) -> Lock:
    content = found.telling.get(LOCK)
    if content is None:
        raise InputError(
            f"{reference} carries no lock: envlock did not build it", hint="name the lock to hold it against: --lock"
        )
    return load_lock(content, file=f"/{LOCK}")


def _labelled(lock: Lock, image: EngineImage) -> Iterator[Finding]:
    expected, label = fingerprint(lock), image.labels.get(FINGERPRINT_LABEL)
    if label != expected:
        message = f"is {label or 'not there'}, and the lock's is {expected}"
        yield Finding(where=f"label {FINGERPRINT_LABEL}", message=message, remedy=_AGAIN)


# --- files ------------------------------------------------------------------------------------------------------------


def expected_tree(base: OpenTar, layers: Sequence[OpenTar]) -> Tree:
    """Return the base with the layers laid over it; all of them are read at the same time."""

    def read(source: tuple[OpenTar, bool]) -> Tree:
        with source[0]() as tar:
            return read_tree(tar, layer=source[1])

    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        tree, *above = pool.map(read, [(base, False), *((layer, True) for layer in layers)])
    for layer in above:
        tree.cover(layer)
    return tree


def compare_trees(expected: Tree, found: Tree, *, passed: frozenset[str] = frozenset()) -> tuple[Finding, ...]:
    """Return each file that is missing, added (unless ``passed``) or changed, sorted by path.

    A folder is named only where nothing below it is, or its own mode or owner changed.
    """
    owners, found_owners = Owners(expected.telling), Owners(found.telling)
    differing = {
        path: _difference(expected.nodes.get(path), found.nodes.get(path))
        for path in sorted(expected.nodes.keys() | found.nodes.keys())
        if expected.nodes.get(path) != found.nodes.get(path) and path not in passed
    }
    full = {parent for path in (*differing, *passed) for parent in _parents(path)}
    return tuple(
        Finding(
            where=f"/{path}",
            message=message,
            remedy=_AGAIN,
            package=owners.of(path) or (found_owners.of(path) if path not in expected.nodes else ""),
        )
        for path, message in differing.items()
        if not (path in full and message in (_MISSING, _ADDED))
    )


_MISSING, _ADDED = "is missing", "was added"
_PLAIN_NAMES = {"file": "a file", "folder": "a folder", "link": "a symbolic link", "device": "a device or pipe"}


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _difference(expected: Node | None, found: Node | None) -> str:
    if expected is None or found is None:
        return _MISSING if found is None else _ADDED
    if expected.kind != found.kind:
        return f"is {_PLAIN_NAMES[found.kind]}, and has to be {_PLAIN_NAMES[expected.kind]}"
    said = []
    if expected.content != found.content:
        sizes = f" ({found.size:,} bytes for {expected.size:,})" if expected.size != found.size else ""
        said.append(f"has other content{sizes}")
    if expected.target != found.target:
        said.append(f"points to {found.target}, and has to point to {expected.target}")
    if expected.mode != found.mode:
        said.append(f"has mode {found.mode:04o} for {expected.mode:04o}")
    if (expected.uid, expected.gid) != (found.uid, found.gid):
        said.append(f"belongs to {found.uid}:{found.gid}, and not to {expected.uid}:{expected.gid}")
    return ", ".join(said)


# --- the project ------------------------------------------------------------------------------------------------------


def _project(expected: Tree, found: Tree, lock: Lock, label: str | None) -> tuple[frozenset[str], tuple[Finding, ...]]:
    """Return what was added below the working folder as the project, and what there is to say of it.

    The lock does not hold the project's files; the image's label holds a sha256 over them (``plan.project_digest``).
    Where they are others, nobody here knows which.
    """
    workdir, uid = lock.image.workdir, lock.image.uid
    known = project_files(expected, found, workdir, label)
    if known is not None:
        wrong = {path: _difference(_as_built(found.nodes[path], uid), found.nodes[path]) for path in sorted(known)}
        return known, tuple(
            Finding(where=f"/{path}", message=message, remedy=_AGAIN) for path, message in wrong.items() if message
        )
    other = Finding(
        where=workdir,
        message="holds other files than the project that the image was built for (label envlock.project)",
        remedy="verify it in the project's own folder, to see which",
    )
    return frozenset(_added(expected, found, workdir)), (other,)


def _as_built(node: Node, uid: int) -> Node:
    """Return a file or folder of the project with the mode and owner that a build gives it."""
    mode = 0o755 if node.kind == "folder" or node.mode & 0o100 else 0o644
    return node._replace(mode=mode, uid=uid, gid=uid)


def project_files(expected: Tree, found: Tree, workdir: str, label: str | None) -> frozenset[str] | None:
    """Return what was added below the working folder, if it is exactly the project that the image says; else None."""
    top = workdir.strip("/") + "/" if workdir.strip("/") else ""
    added = _added(expected, found, workdir)
    files = [path for path in added if found.nodes[path].kind == "file"]
    lines = (
        json.dumps([path.removeprefix(top), bool(found.nodes[path].mode & 0o100), found.nodes[path].content.hex()])
        for path in files
    )
    if label != hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest():
        return None
    folders = {path for path in added if found.nodes[path].kind == "folder"}
    return frozenset([*files, *(folders & {parent for path in files for parent in _parents(path)})])


def _added(expected: Tree, found: Tree, workdir: str) -> list[str]:
    top = workdir.strip("/") + "/" if workdir.strip("/") else ""
    return sorted(path for path in found.nodes.keys() - expected.nodes.keys() if path.startswith(top))


# --- settings ---------------------------------------------------------------------------------------------------------


_FURTHER = {  # OCI image spec, config; Docker's Healthcheck, Shell and OnBuild
    "Cmd": "command",
    "ExposedPorts": "ports",
    "Healthcheck": "health check",
    "OnBuild": "steps for images on top",
    "Shell": "shell",
    "StopSignal": "stop signal",
    "StopTimeout": "stop timeout",
    "Volumes": "volumes",
}


def _settings(config: Mapping[str, Any], image: EngineImage) -> Iterator[Finding]:
    """Yield what containers of the image would get otherwise: variables, user, folder and program."""
    if not config:
        return
    wanted = dict(line.partition("=")[::2] for line in config["Env"])
    for name in sorted(wanted.keys() | image.env.keys()):
        if wanted.get(name) != image.env.get(name):
            yield _setting(f"variable {name}", image.env.get(name), wanted.get(name))
    for name, there, expected in (
        ("user", image.user, config["User"]),
        ("working directory", image.workdir, config["WorkingDir"]),
        ("entrypoint", list(image.entrypoint), list(config.get("Entrypoint") or ())),
        *((name, image.config.get(key) or None, config.get(key) or None) for key, name in _FURTHER.items()),
    ):
        if there != expected:
            yield _setting(name, there, expected)


def _setting(where: str, there: object, expected: object) -> Finding:
    if there is None or expected is None:
        return Finding(where=where, message=_MISSING if there is None else _ADDED, remedy=_AGAIN)
    return Finding(where=where, message=f"is {there!r}, and has to be {expected!r}", remedy=_AGAIN)


# --- digests ----------------------------------------------------------------------------------------------------------


def compare_digests(again: Again, image: EngineImage) -> tuple[Finding, ...]:
    """Return each layer that is another one when everything is made again, or else the configuration that is."""
    made = again.image
    base = len(made.base_diff_ids)
    titles = [f"layer {number} of the base" for number in range(1, base + 1)]
    titles += [f"layer {number}: {layer.title}" for number, layer in enumerate(made.layers, start=base + 1)]
    findings = [
        Finding(where=title, message=f"is {there}, and made again {new}", remedy=_AGAIN)
        for title, new, there in zip(titles, made.diff_ids, image.diff_ids, strict=False)
        if new != there
    ]
    expected = len(made.diff_ids) + (0 if again.whole else 1)  # the project's, which is not here
    if expected != len(image.diff_ids):
        message = f"has {len(image.diff_ids)} layers, and made again {expected}"
        findings.append(Finding(where="the image", message=message, remedy=_AGAIN))
    if again.whole and not findings and image.id not in again.ids:
        message = f"the configuration is another one: {image.id}, and made again {made.image_id}"
        findings.append(Finding(where="the image", message=message, remedy=_AGAIN))
    return tuple(findings)


# --- reports ----------------------------------------------------------------------------------------------------------

_SHOWN = 5  # findings of one package, for people


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as ``verify --json`` prints it."""
    return {
        "image_id": report.image.id,
        "fingerprint": report.fingerprint,
        "files": report.files,
        "findings": [
            {"where": it.where, "message": it.message, "package": it.package or None, "remedy": it.remedy}
            for it in report.findings
        ],
    }


def as_text(report: Report, *, title: str) -> str:
    """Return a report for people: by package, those with most findings in full only in JSON."""
    if not report.findings:
        return f"{title}: {report.files:,} files, all as the lock says\n"
    count = len(report.findings)
    lines = [f"{title}: {count:,} {'findings' if count != 1 else 'finding'} in {report.files:,} files"]
    for package, findings in _by_package(report.findings).items():
        lines += ["", f"{package or 'of no package'}:"]
        lines += [
            f"  {one_line(it.where, longest=200)} {one_line(it.message, longest=200)}" for it in findings[:_SHOWN]
        ]
        if len(findings) > _SHOWN:
            lines.append(f"  and {len(findings) - _SHOWN:,} more (--json has them all)")
    return "\n".join(lines) + "\n"


def _by_package(findings: Sequence[Finding]) -> Mapping[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.package, []).append(finding)
    return dict(sorted(found.items()))
