"""Options that several commands share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.times import read_time

if TYPE_CHECKING:
    from functions.files.id_fields import IdField


def parse_time(text: str) -> datetime:
    """Parse a time, as `read_time` does.

    Raises:
        typer.BadParameter: The text is not a time.
    """
    try:
        return read_time(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a time; examples of times are 2026-11-23, 2026-11-23T20:15:00Z, 90m, 24h, 7d"
        ) from error


def parse_past_time(text: str) -> datetime:
    """Parse a time that must not be in the future, where there is no data.

    Raises:
        typer.BadParameter: The text is not a time, or the time is in the future.
    """
    time = parse_time(text)
    if time > datetime.now(UTC):
        raise typer.BadParameter(f"{text} is in the future")
    return time


def check_order(start: datetime | None, end: datetime | None) -> None:
    """Check that `--from` is before `--to`, where both are given.

    Raises:
        typer.BadParameter: It is not.
    """
    if start and end and start >= end:
        raise typer.BadParameter(f"{start.isoformat()} is not before --to, {end.isoformat()}", param_hint="--from")


def check_format(context: typer.Context, value: bool) -> bool:
    """Check that only one of `--json` and `--csv` is given.

    Raises:
        typer.BadParameter: Both are.
    """
    if value and (context.params.get("as_json") or context.params.get("as_csv")):
        raise typer.BadParameter("--json and --csv exclude each other")
    return value


def id_fields(paths: Sequence[str] | None) -> list[IdField]:
    """Parse the paths of `--id-field`.

    Raises:
        typer.BadParameter: A path is invalid.
    """
    if not paths:
        return []  # The import takes 0.4 s.
    from functions.files.id_fields import IdField

    try:
        return [IdField.parse(path) for path in paths]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--id-field") from error


def nearest(name: str, names: Iterable[str], otherwise: str) -> str:
    """Return a question with the names that are most similar to a name, or another text where none is similar."""
    near = difflib.get_close_matches(name, names, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def check_version(version: int | None) -> None:
    """Check that a contract has the version of `--schema-version`, where it is given.

    Raises:
        typer.BadParameter: None has it.
    """
    from functions.core.contracts import FILE_NAME, FOLDER

    versions = {int(name["version"]) for file in FOLDER.iterdir() if (name := FILE_NAME.fullmatch(file.name))}
    if version and version not in versions:
        text = f"no contract has version {version}; versions are {', '.join(map(str, sorted(versions)))}"
        raise typer.BadParameter(text, param_hint="--schema-version")


FilePatterns = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Files, folders, globs or gs://BUCKET/PREFIX: NDJSON of events or of the archive, compressed or not.",
        show_default=False,
    ),
]
SchemaVersion = Annotated[
    int | None,
    typer.Option(
        min=1, help="Contract version of events without an envelope; default: that of the type.", show_default=False
    ),
]
IdFieldPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--id-field",
        metavar="PATH",
        help="Field that contains the event id, for events without an envelope: $.order_id, $.meta.id. The values of"
        " several fields are joined with |.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Process everything, write nothing.")]
Json = Annotated[bool, typer.Option("--json", callback=check_format, help="Write JSON to standard output.")]
Csv = Annotated[bool, typer.Option("--csv", callback=check_format, help="Write CSV with a header to standard output.")]
Rate = Annotated[
    float | None,
    typer.Option(
        min=0.1, help="Maximum events per second; default: as fast as they can be loaded.", show_default=False
    ),
]
Topic = Annotated[
    str, typer.Option(help="Topic to publish to, as projects/PROJECT/topics/TOPIC.", envvar="SLUICE_TOPIC")
]
Undeliverable = Annotated[
    bool, typer.Option("--undeliverable", help="Read the dead-letter subscription, to which Pub/Sub forwards failures.")
]
Subscription = Annotated[
    str,
    typer.Option(
        help="Dead-letter subscription of --undeliverable, as projects/PROJECT/subscriptions/SUBSCRIPTION.",
        envvar="SLUICE_UNDELIVERABLE",
    ),
]
IdleSeconds = Annotated[
    float, typer.Option("--patience", min=0.5, help="Seconds without a message that end --undeliverable.")
]
Seed = Annotated[int, typer.Option(help="Seed of the simulated shop. Event ids differ in each run.")]
EventId = Annotated[str, typer.Argument(help="Id of the event: its attribute event_id, or the id of its message.")]
