"""Base images that can be looked into: with an engine that runs them, or unpacked on this machine without one.

``in_engine`` and ``without_engine`` are the two; a command needs one of them, and imports that one.
"""
