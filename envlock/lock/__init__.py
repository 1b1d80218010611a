"""Spec to lock: everything that is pinned, resolved for the base image and never for this machine."""
