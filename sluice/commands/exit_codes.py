"""Exit codes of the commands. An error that a user can fix ends a command without a traceback."""

import contextlib
import enum
from collections.abc import Iterator

import typer
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from rich.console import Console
from rich.text import Text

from functions.files.sources import Unreadable
from functions.ingest.http_client import ApiError
from functions.settings import InvalidSettings
from sluice.backfill.run import FAILURES
from sluice.beam import NoBeam
from sluice.formatting import printable
from sluice.queries import WrongParameter
from sluice.smoke import NoExample
from sluice.snapshots import SnapshotError

console = Console(stderr=True)


class ExitCode(enum.IntEnum):
    """Exit codes. Each command's help says what they mean there."""

    DONE = 0
    """All was done."""
    FAILED = 1
    """Not all was done: Google Cloud rejects or does not answer, something is missing, or a check found something."""
    WRONG = 2
    """Nothing was begun: an argument, an option or a setting is wrong or missing."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM ended the command."""


@contextlib.contextmanager
def exit_code_of_errors() -> Iterator[None]:
    """Turn an error that ends a command into a sentence on standard error and an exit code.

    Raises:
        typer.Exit: With `ExitCode.WRONG` or `ExitCode.FAILED`.
    """
    try:
        yield
    except (InvalidSettings, WrongParameter) as error:
        print_error("Nothing was done:", error)
        raise typer.Exit(ExitCode.WRONG) from error
    except BrokenPipeError:  # The reader of the answer has closed it.
        raise
    except (SnapshotError, Unreadable, NoBeam, NoExample, OSError, *FAILURES) as error:  # OSError: no project is set
        print_error("Failed:", error)
        if isinstance(error, GoogleAuthError | OSError):
            console.print("For the local stack, run the export lines that `sluice up` prints.", soft_wrap=True)
        raise typer.Exit(ExitCode.FAILED) from error


def print_error(what: str, why: object) -> None:
    """Write to standard error what is wrong, and why. An error of Google Cloud is quoted."""
    if isinstance(why, ApiError):
        why = why.unsafe_message or why
    elif isinstance(why, GoogleAPICallError):
        match why.errors:
            case [{"message": message}, *_]:  # Of gRPC there are calls instead.
                why = message
    console.print(Text.assemble((what, "bold red"), f" {printable(str(why))}"), soft_wrap=True)
