"""From a plan to an image: which layers it has, and what its configuration says. The same input, the same digest."""

from envlock.compose.assemble import Ahead, Assembled, Means, assemble
from envlock.compose.image import compose
from envlock.compose.small import SmallLayer, small_layers
from envlock.compose.system import Installer, SystemPackages, system_layer

__all__ = [
    "Ahead",
    "Assembled",
    "Installer",
    "Means",
    "SmallLayer",
    "SystemPackages",
    "assemble",
    "compose",
    "small_layers",
    "system_layer",
]
