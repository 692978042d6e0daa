"""Options that several commands have."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ops.backfill.id_fields import IdField

_AGO = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """A time: ISO 8601, in UTC unless it says otherwise; or how long ago, as `90m`, `24h` or `7d`.

    Raises:
        typer.BadParameter: It is neither.
    """
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time: 2026-11-23, 2026-11-23T20:15:00Z, 90m, 24h, 7d") from error
    return given if given.tzinfo else given.replace(tzinfo=UTC)


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
