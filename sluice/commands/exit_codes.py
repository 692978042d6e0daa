"""How a command ends: with one of these exit codes, and without a traceback where the world is not as it should be."""

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
    """What a shell gets to know; each command's help says what it means there."""

    DONE = 0
    """All of it."""
    FAILED = 1
    """Not, or not all of it: Google Cloud refuses or does not answer, something is missing, a check found something."""
    WRONG = 2
    """Nothing was begun: an argument, an option or a setting is wrong or missing."""
    INTERRUPTED = 130
    """By Ctrl-C or SIGTERM."""


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Turn what a command cannot go on after into a sentence on standard error, and an exit code.

    Raises:
        typer.Exit: With `ExitCode.WRONG` or `ExitCode.FAILED`.
    """
    try:
        yield
    except (InvalidSettings, WrongParameter) as error:
        tell("Nothing was done:", error)
        raise typer.Exit(ExitCode.WRONG) from error
    except BrokenPipeError:  # Who reads the answer has had enough of it.
        raise
    except (SnapshotError, Unreadable, NoBeam, NoExample, OSError, *FAILURES) as error:  # OSError: no project is set
        tell("Failed:", error)
        if isinstance(error, GoogleAuthError | OSError):
            console.print("For the local stack, run the export lines that `sluice up` prints.", soft_wrap=True)
        raise typer.Exit(ExitCode.FAILED) from error


def tell(what: str, why: object) -> None:
    """Say on standard error what is wrong, and why; of an error of Google Cloud, in its own words."""
    if isinstance(why, ApiError):
        why = why.unsafe_message or why
    elif isinstance(why, GoogleAPICallError):
        match why.errors:
            case [{"message": message}, *_]:  # Of gRPC there are calls instead.
                why = message
    console.print(Text.assemble((what, "bold red"), f" {printable(str(why))}"), soft_wrap=True)
