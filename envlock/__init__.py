"""One lock, one image, for machine-learning training."""

__version__ = "0.1.0"
