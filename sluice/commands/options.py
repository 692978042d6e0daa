"""Options that several commands have."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from functions.files.id_fields import IdField
from sluice.times import read_time


def parse_time(text: str) -> datetime:
    """Read a time, as `read_time` does.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return read_time(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time: 2026-11-23, 2026-11-23T20:15:00Z, 90m, 24h, 7d") from error


def parse_past_time(text: str) -> datetime:
    """Read a time that is over: of a later one, an answer would be empty.

    Raises:
        typer.BadParameter: It is none, or it is in the future.
    """
    time = parse_time(text)
    if time > datetime.now(UTC):
        raise typer.BadParameter(f"{text} is in the future")
    return time


def check_order(start: datetime | None, end: datetime | None) -> None:
    """Check that there is time between `--from` and `--to`, where both are given.

    Raises:
        typer.BadParameter: There is none.
    """
    if start and end and start >= end:
        raise typer.BadParameter(f"{start.isoformat()} is not before --to, {end.isoformat()}", param_hint="--from")


def id_fields(paths: Sequence[str] | None) -> list[IdField]:
    """Parse the paths of `--id-field`.

    Raises:
        typer.BadParameter: One of them is no path.
    """
    try:
        return [IdField.parse(path) for path in paths or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--id-field") from error


IdFieldPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--id-field",
        metavar="PATH",
        help="Field with the id of each event that is in no envelope: $.order_id, $.meta.id. Several make up one id,"
        " joined by |.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Process everything, write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Rate = Annotated[
    float | None, typer.Option(min=0.1, help="Events per second at most; default: as fast as they can be loaded.")
]
