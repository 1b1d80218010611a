"""Run envlock as ``python -m envlock``."""

from envlock.cli.app import main

if __name__ == "__main__":
    main()
