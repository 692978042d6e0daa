"""Exit codes of the commands. An error that a user can fix ends a command without a traceback."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.text import Text

from functions.settings import InvalidSettings
from functions.source_files import InvalidFile
from sluice.commands.command_settings import NoStack
from sluice.commands.error_messages import message
from sluice.formatting import printable
from sluice.local.data_folder import UnreadableState

console = Console(stderr=True, soft_wrap=True)


class ExitCode(enum.IntEnum):
    """Exit codes. Each command's help describes their meaning for the command."""

    DONE = 0
    """The command succeeded."""
    FAILED = 1
    """The command did not succeed: Google Cloud rejects a request or does not answer, something is missing, or a check
    failed."""
    WRONG = 2
    """The command was not started: an argument, an option or a setting is wrong or missing."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM ended the command."""


@contextlib.contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Print an error that a user can fix as a sentence on standard error, and turn it into an exit code.

    Raises:
        typer.Exit: With `ExitCode.WRONG` or `ExitCode.FAILED`.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise  # It may have interrupted an import, which the lines below would repeat and fail.
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):  # BrokenPipeError: the reader of the output
        raise  # has closed it.
    except (NoStack, UnreadableState) as error:
        print_error("Failed:", str(error))
        raise typer.Exit(ExitCode.FAILED) from error
    except _input_errors() as error:
        print_error("Nothing was done:", str(error))
        raise typer.Exit(ExitCode.WRONG) from error
    except _failures() as error:
        print_error("Failed:", error)
        raise typer.Exit(ExitCode.FAILED) from error


def _input_errors() -> tuple[type[Exception], ...]:
    from sluice.queries import WrongParameter

    return InvalidSettings, InvalidFile, WrongParameter


def _failures() -> tuple[type[Exception], ...]:
    from functions.files.sources import Unreadable
    from sluice.backfill.run import FAILURES
    from sluice.beam import NoBeam
    from sluice.commands.cloud_check import NoAnswer
    from sluice.smoke import NoExample
    from sluice.snapshots import SnapshotError

    return SnapshotError, Unreadable, NoBeam, NoExample, NoAnswer, OSError, *FAILURES


def print_error(what: str, reason: object) -> None:
    """Print an error and its reason to standard error. The message of an error of Google Cloud is quoted."""
    text = message(reason) or type(reason).__name__ if isinstance(reason, Exception) else str(reason)
    console.print(Text.assemble((what, "bold red"), f" {printable(text)}"), soft_wrap=True)
