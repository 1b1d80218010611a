"""``build``: from a plan to an image. ``verb`` has the order of things, ``native`` and ``plain`` the two ways."""

from envlock.build.engine_images import have_base
from envlock.build.names import references
from envlock.build.native import means_of
from envlock.build.verb import Wishes, build
from envlock.build.workshop import Workshop

__all__ = ["Wishes", "Workshop", "build", "have_base", "means_of", "references"]
