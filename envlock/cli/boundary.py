"""The one place that turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from envlock.errors import EnvlockError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BUG = 70  # EX_SOFTWARE, sysexits.h


class Boundary(TyperGroup):
    """The group of all commands; whatever a command raises becomes a message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except EnvlockError as error:
            print(describe(error), file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("envlock: interrupted; nothing is left behind", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # whoever read our output has what they wanted; keep Python's own flush at exit from complaining
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort, TyperException):
            raise  # the command-line parser's own, which it reports itself
        except Exception:  # noqa: BLE001 - the last one: whatever comes here is a bug, and is to say so
            traceback.print_exc()
            print("envlock: this is a bug in envlock; please report it with the lines above", file=sys.stderr)
            raise typer.Exit(BUG) from None


def describe(error: EnvlockError) -> str:
    """Return an error as a person reads it: what is wrong, the details, and what to do next."""
    lines = [f"error: {error.message}", *(f"  {detail}" for detail in error.details)]
    if error.hint:
        lines += ["", f"hint: {error.hint}"]
    return "\n".join(lines)
