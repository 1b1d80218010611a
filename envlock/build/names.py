"""The names that an image gets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envlock.errors import UsageError
from envlock.formats.names import IMAGE_REFERENCE, TAG
from envlock.formats.reference import DEFAULT_REGISTRY, parse_reference
from envlock.model.plan import Plan

_OFFICIAL = f"{DEFAULT_REGISTRY}/library/"  # where the public registry keeps images that have no owner in their name


def references(plan: Plan, tags: Sequence[str] = ()) -> tuple[str, ...]:
    """Return every name that the image gets, its own first; raises ``UsageError``."""
    repository = plan.lock.image.repository
    names = [f"{repository}:{plan.tag}"]
    for tag in (*plan.lock.image.tags, *tags):
        if re.fullmatch(TAG.pattern, tag):
            names.append(f"{repository}:{tag}")
        elif "@" not in tag and ":" in tag.rpartition("/")[2] and re.fullmatch(IMAGE_REFERENCE.pattern, tag):
            names.append(tag)
        else:
            raise UsageError(
                f"{tag!r} is neither a tag nor an image reference with a tag",
                hint="like v1 or registry.example.org/team/demo:v1",
            )
    return tuple(dict.fromkeys(names))


def published(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that can be pushed: a bare one ("demo:v1") would mean the public registry's own images.

    Raises ``UsageError`` where there is none.
    """
    found = tuple(name for name in names if not parse_reference(name).repository.startswith(_OFFICIAL))
    if not found:
        raise UsageError(
            f"{names[0]} names no registry to push to",
            hint="set image: {repository: registry.example.org/team/demo} in the spec, or give such a name with --tag",
        )
    return found
