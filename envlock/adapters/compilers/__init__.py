"""Interpreters that compile files for an image: on this machine, or the base's own, in a container or without."""

from envlock.adapters.compilers.in_container import ContainerCompiler
from envlock.adapters.compilers.processes import ProcessCompiler, local_interpreter
from envlock.adapters.compilers.unpacked import unpacked_interpreter

__all__ = ["ContainerCompiler", "ProcessCompiler", "local_interpreter", "unpacked_interpreter"]
