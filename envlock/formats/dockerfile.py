"""A plan as a Dockerfile that any builder builds, offline.

Only what the classic builder of 2020 knows is in it: no syntax line (a front end would have to be fetched), no
mounts, no heredocs. Values are escaped for the place where they stand: a word of a Dockerfile instruction, a word of
the shell, or a comment.
"""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence

from envlock.errors import LockError
from envlock.formats.templates import render
from envlock.model.lock import Deb
from envlock.model.plan import METADATA, VENV, Plan, ProjectLayer, PythonLayer, SystemLayer

HEADER = "# Made by envlock from envlock.lock"  # by it, an export of ours is known

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=~-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # useradd(8); it stands in shell words and in /etc/passwd
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")
_SECRET = re.compile(r"token|secret|passw|pwd|key|auth|cred|api", re.IGNORECASE)  # as hadolint's DL3064, roughly
_BREAKING = {"Cc", "Cs", "Zl", "Zp"}
_WIDTH = 118


def dockerfile(plan: Plan, *, base: str | None = None) -> str:
    """Return the Dockerfile; ``base`` is another name of the very same base image, for an engine that knows only that.

    Raises ``LockError`` for a value that no Dockerfile can hold (line breaks, control characters).
    """
    config = plan.config
    if not _USER.fullmatch(config.user):
        raise LockError(f"image.user: {config.user!r} is not a user name")
    return render(
        "Dockerfile.j2",
        header=HEADER,
        title=_comment(plan.lock.name),
        fingerprint=plan.fingerprint,
        base_python=_comment(plan.base.python.version),
        base_name=_comment(plan.base.reference),
        base_os=_comment(plan.base.os.pretty_name or plan.base.os.id),
        base_pinned=_word(base or plan.base.pinned),
        base_is_local=base is None and plan.base.manifest_digest is None,
        python=_shell(plan.base.python.executable),
        debs=_debs(plan),
        asked=_asked(_debs(plan)),
        wheels=[wheel for layer in plan.layers if isinstance(layer, PythonLayer) for wheel in layer.wheels],
        installer=_word(plan.lock.installer.filename),
        has_project=any(isinstance(layer, ProjectLayer) for layer in plan.layers),
        venv=VENV,
        metadata=METADATA,
        uid=config.uid,
        user=config.user,
        workdir=_word(config.workdir),
        workdir_in_shell=_shell(config.workdir),
        copy_project=_copy("project/", config.workdir.rstrip("/") + "/"),
        entrypoint=_exec(config.entrypoint),
        sounds_secret=any(_SECRET.search(name) for name in config.env),
        env=_pairs(config.env, _VARIABLE, "env"),
        labels=_pairs(config.labels, _LABEL, "image.labels"),
    )


def _debs(plan: Plan) -> Sequence[Deb]:
    return [deb for layer in plan.layers if isinstance(layer, SystemLayer) for deb in layer.debs]


def _asked(debs: Sequence[Deb]) -> list[str]:
    """Return comment lines: what was asked for at its version, and how many more came with it."""
    asked = sorted(f"{_comment(deb.name)}={_comment(deb.version)}" for deb in debs if deb.requested)
    more = len(debs) - len(asked)
    if more:
        asked.append(f"and {more} more that {'they need' if len(asked) != 1 else 'it needs'} (apt.txt)")
    return textwrap.wrap(", ".join(asked), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _pairs(values: Mapping[str, str], grammar: re.Pattern[str], where: str) -> list[str]:
    wrong = [name for name in values if not grammar.fullmatch(name)]
    if wrong:
        raise LockError(f"{where}: a Dockerfile cannot hold the name {wrong[0]!r}")
    return [f"{name}={_quoted(value)}" for name, value in values.items()]


def _copy(source: str, target: str) -> str:
    if _PLAIN.fullmatch(target):
        return f"{source} {target}"
    _check(target)
    # The JSON form is for spaces only; what is in it is read as shell words, too.
    return json.dumps([source, re.sub(r"([\\$\"'])", r"\\\1", target)], ensure_ascii=False)


def _exec(words: Sequence[str]) -> str:
    for word in words:
        _check(word)
    # JSON's other way to write a backslash: hadolint does not read the usual one.
    return json.dumps(list(words), ensure_ascii=False).replace(r"\\", r"\u005c") if words else ""


def _word(value: str) -> str:
    """Return one word of an instruction in which the builder expands variables."""
    return value if _PLAIN.fullmatch(value) else _quoted(value)


def _quoted(value: str) -> str:
    _check(value)
    body = value.rstrip("\\")
    quoted = '"' + re.sub(r'([\\"$])', r"\\\1", body) + '"'
    # Last backslashes stand outside the quotes (hadolint takes \\" for an open quote) and not at the end of a line.
    return quoted + r"\\" * (len(value) - len(body)) + '""' if body != value else quoted


def _shell(value: str) -> str:
    """Return one word of a RUN: the builder leaves it alone, the shell reads it."""
    _check(value)
    return value if _PLAIN.fullmatch(value) else '"' + re.sub(r'([\\"$`])', r"\\\1", value) + '"'


def _comment(value: str) -> str:
    return "".join(" " if unicodedata.category(character) in _BREAKING else character for character in value)


def _check(value: str) -> None:
    if any(character != "\t" and unicodedata.category(character) in _BREAKING for character in value):
        raise LockError(f"a Dockerfile cannot hold {value!r}: it has a line break or a control character in it")
