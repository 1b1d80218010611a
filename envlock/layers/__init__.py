"""Layers that are made here, from wheels: the same bytes every time, on every machine."""
