"""Images in the engine: the base that a build starts from, and what a failed one must not leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from envlock.build.workshop import Unfinished
from envlock.errors import EngineError, EnvlockError
from envlock.model.lock import Base
from envlock.ports import Engine, EngineImage, Progress


def have_base(base: Base, *, platform: str, engine: Engine, progress: Progress) -> str:
    """Have the base image in the engine; return what the engine finds it by.

    Raises ``EngineError`` for a local image that is not there, and what pulling raises.
    """
    # The same image may be there without a registry's name for it: loaded from a file, or built here.
    for name in (base.pinned, base.image_id):
        if engine.find(name) is not None:
            return name
    if base.manifest_digest is not None:
        engine.pull(base.pinned, platform=platform, progress=progress)
        return base.pinned
    other = engine.find(base.reference)
    raise EngineError(
        f"the base image {base.reference} ({base.image_id[:19]}) is in no registry, and this engine does not have it"
        + (f": its {base.reference} is another image, {other.id[:19]}" if other else ""),
        hint="load it with 'docker load', or lock again with the base that is there",
    )


def forget_unfinished(unfinished: Unfinished, engine: Engine) -> None:
    """Remove images without a name that earlier builds sent, and did not live to see."""
    for left in unfinished.left():
        found = next(filter(None, map(engine.find, left.ids)), None)
        if found is None and not left.old:
            continue  # the engine may still be at work on it
        if found is not None and not _is_named(found):
            with suppress(EnvlockError):  # somebody uses it
                engine.remove(found.id)
        left.forget()


@contextmanager
def discarded_on_failure(image_id: str, engine: Engine) -> Iterator[None]:
    """Remove an image that has no name where what is done in this context fails."""
    try:
        yield
    except BaseException:
        found = engine.find(image_id)
        # With all steps in the builder's cache it can be an image that has had a name for long.
        if found is not None and not _is_named(found):
            engine.remove(image_id)
        raise


def _is_named(image: EngineImage) -> bool:
    """Say whether somebody calls an image by a tag, or pulled it by its digest."""
    return bool(image.tags or image.digests)
