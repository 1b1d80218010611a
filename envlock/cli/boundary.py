"""The one place that turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from envlock.errors import EnvlockError, StorageError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
TERMINATED = 143  # 128 + SIGTERM
_FULL = (errno.ENOSPC, errno.EDQUOT)
BUG = 70  # EX_SOFTWARE, sysexits.h


class Terminated(KeyboardInterrupt):
    """SIGTERM, which CI systems and init systems send: ends as cleanly as Ctrl-C does."""


class Boundary(TyperGroup):
    """The group of all commands; whatever a command raises becomes a message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            signal.signal(signal.SIGTERM, _terminate)
            answer = super().invoke(ctx)
            sys.stdout.flush()  # here, where a closed pipe or a full disk is still an error that we can report
            return answer  # noqa: TRY300 - flushing is part of the try
        except EnvlockError as error:
            print(describe(error), file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            print(f"envlock: interrupted; {_left_by(interrupt)}", file=sys.stderr)
            raise typer.Exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED) from None
        except BrokenPipeError:
            _close_stdout()  # whoever read our output has what they wanted
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort, TyperException):
            raise  # the command-line parser's own, which it reports itself
        except OSError as error:
            if error.errno not in _FULL:
                raise _bug() from None
            where = f" ({error.filename})" if error.filename else ""
            full = StorageError(f"{os.strerror(error.errno)}{where}", hint="free some space and run the command again")
            print(describe(full), file=sys.stderr)
            _close_stdout()
            raise typer.Exit(full.exit_code) from None
        except Exception:  # noqa: BLE001 - the last one: whatever comes here is a bug, and is to say so
            raise _bug() from None


def _left_by(interrupt: BaseException) -> str:
    """Return what an interruption left behind; one may have come in the middle of another."""
    while not getattr(interrupt, "__notes__", []) and interrupt.__context__ is not None:
        interrupt = interrupt.__context__
    return "; ".join(getattr(interrupt, "__notes__", [])) or "nothing is left behind"


def _terminate(*_: object) -> None:
    raise Terminated


def _bug() -> typer.Exit:
    traceback.print_exc()
    print("envlock: this is a bug in envlock; please report it with the lines above", file=sys.stderr)
    return typer.Exit(BUG)


def _close_stdout() -> None:
    """Keep Python's own flush at exit from failing once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe(error: EnvlockError) -> str:
    """Return an error as a person reads it: what is wrong, the details, and what to do next."""
    lines = [f"error: {error.message}", *(f"  {detail}" for detail in error.details)]
    if error.hint:
        lines += ["", f"hint: {error.hint}"]
    return "\n".join(lines)
