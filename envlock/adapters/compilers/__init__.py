"""Interpreters that compile files for an image: on this machine, or the base's own, in a container or without."""

from envlock.adapters.compilers.piped import PipedCompiler, worker_argv
from envlock.adapters.compilers.processes import interpreter_version, process_compiler
from envlock.adapters.compilers.unpacked import unpacked_interpreter
from envlock.adapters.compilers.wire import ENVIRONMENT

__all__ = [
    "ENVIRONMENT",
    "PipedCompiler",
    "interpreter_version",
    "process_compiler",
    "unpacked_interpreter",
    "worker_argv",
]
