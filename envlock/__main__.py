"""The way in: ``envlock``, or ``python -m envlock``."""

from __future__ import annotations

import gc

_THRESHOLD = 50_000  # Python's own is 700 new objects


def main() -> None:
    """Run the command line."""
    # Most of a short command is importing and ending. The first leaves no garbage, and at the end it does not matter:
    # looking for it in all that was imported takes an eighth of the whole time.
    gc.set_threshold(_THRESHOLD)
    from envlock.cli.app import app  # noqa: PLC0415 - see above

    try:
        app()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
