"""What is installed in an image, held against its lock."""

from __future__ import annotations

from envlock.build.workshop import Workshop
from envlock.errors import BuildFailed
from envlock.formats.installed import differences
from envlock.inside import read_installed
from envlock.model.image import Installed
from envlock.model.plan import Plan
from envlock.ports import Engine


def installed_in(image_id: str, plan: Plan, workshop: Workshop, engine: Engine) -> Installed:
    """Return what the image's own Python says, read now or before; raises ``BuildFailed`` where the lock differs."""
    known = workshop.readings.get(image_id)
    if known is not None:
        return known
    with (
        workshop.progress.task("Checking what is installed in the image"),
        # The container's own helper runs with the base's Python: the environment's may be what is broken.
        engine.container(image_id, python=plan.base.python.executable) as container,
    ):
        installed = read_installed(container)
    found = differences(installed, plan.lock)
    if found:
        raise BuildFailed(
            "what is installed in the image is not what the lock says",
            details=found,
            hint="a wheel whose name and content disagree, or a base that adds packages to every environment",
        )
    workshop.readings.put(image_id, installed)
    return installed
