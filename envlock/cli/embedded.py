"""The plan of an image that is there already, out of what it carries and the project here."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from envlock.adapters.project import read_project
from envlock.cli.files import LOCK, SPEC
from envlock.cli.world import World
from envlock.errors import EnvlockError, InputError
from envlock.formats.lock_json import dump_lock, fingerprint
from envlock.model.lock import Lock
from envlock.model.plan import RESERVED_LABEL_PREFIX, RESERVED_LABELS, Plan, Project
from envlock.plan import make_plan
from envlock.ports import EngineImage

_OCI = "org.opencontainers.image."


def plan_of_image(image: EngineImage, lock: Lock, world: World) -> Plan:
    """Return the image's plan: with the project here, if it is still the same, else with what the labels say.

    A plan out of labels has no files of the project.
    """
    named, text = fingerprint(lock), dump_lock(lock)
    try:
        if not any((world.cwd / name).is_file() for name in (LOCK, SPEC)):
            raise InputError("this folder is no project")
        epoch = world.environ.get("SOURCE_DATE_EPOCH", "")
        here = read_project(
            world.cwd, lock.project, source_date_epoch=int(epoch) if epoch.isdigit() else None, warn=lambda _: None
        )
        plan = make_plan(lock, here, fingerprint=named, lock_text=text)
    except EnvlockError:
        plan = None
    if plan is not None and all(image.labels.get(name) == value for name, value in plan.config.labels.items()):
        return plan
    plan = make_plan(lock, _project(image), fingerprint=named, lock_text=text)
    ours = {
        name: value
        for name, value in image.labels.items()
        if name in RESERVED_LABELS or name.startswith(RESERVED_LABEL_PREFIX) or name in lock.image.labels
    }
    return replace(plan, config=replace(plan.config, labels=ours))


def _project(image: EngineImage) -> Project:
    said = {name.removeprefix(_OCI): value for name, value in image.labels.items() if name.startswith(_OCI)}
    try:
        epoch = int(datetime.fromisoformat(said.get("created", "")).timestamp())
    except ValueError:
        epoch = 0
    version = said.get("version")
    return Project(
        revision=said.get("revision"),
        dirty=bool(version and version.endswith("-dirty")),
        version=version,
        source=said.get("source"),
        epoch=epoch,
    )
