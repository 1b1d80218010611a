"""Interpreters that compile files for an image: on this machine, or in a container of the base."""

from envlock.adapters.compilers.in_container import ContainerCompiler
from envlock.adapters.compilers.processes import ProcessCompiler, local_interpreter

__all__ = ["ContainerCompiler", "ProcessCompiler", "local_interpreter"]
