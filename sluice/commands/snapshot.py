"""`sluice snapshot` and `sluice restore`."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from functions.archive import layout
from functions.clients import bigquery_client
from functions.settings import Settings
from sluice.backfill.run import FAILURES
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import parse_time
from sluice.snapshots import Restored, Snapshot, SnapshotError, Snapshots

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the statements instead of running them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def snapshot(
    tables: Annotated[
        list[str] | None,
        typer.Argument(help="Tables of the live dataset; default: all of them, the dead letters and `replays` too."),
    ] = None,
    days: Annotated[int, typer.Option(help="How long to keep them.")] = 30,
    list_: Annotated[bool, typer.Option("--list", help="List the snapshots that there are instead.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Keep tables as they are now, read-only, in the historical dataset.

    What was streamed in during the last 90 minutes may not be in a snapshot yet; the archive has it.

    Exit code 0: all snapshots were taken; 1: not all; 2: an argument or a setting is wrong.
    """
    snapshots = _open(dry_run)
    if list_:
        _show(list(snapshots.taken()), json=json)
        return
    failed = False
    taken: list[Snapshot] = []
    now = datetime.now(UTC)
    for table in dict.fromkeys(tables or Snapshots.tables()):
        try:
            taken.append(snapshots.take(table, now, days))
        except (SnapshotError, *FAILURES) as error:
            print_error(f"No snapshot of {table}:", error)
            failed = True
    if dry_run:
        _show_statements(snapshots, json=json)
    else:
        _show(taken, json=json)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def restore(
    name: Annotated[str, typer.Argument(help="A snapshot; or, with --at, a table of the live dataset.")],
    at: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time,
            metavar="TIME",
            help="Restore the table as it was then: a time, or 90m, 24h ago; seven days at most.",
        ),
    ] = None,
    to: Annotated[str | None, typer.Option(help="Name of the new table; default: NAME and _restored.")] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Put its rows in the place of the live table's, of which a snapshot is taken before. Stop the"
            " ingestion 90 minutes before: BigQuery deletes no row that it streamed in since.",
        ),
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a table of a snapshot, or of what a table was at a time, with its partitions and clustering.

    The table is a new one in the live dataset, unless --replace is given.

    Exit code 0: restored; 1: refused, or failed; 2: an argument or a setting is wrong.
    """
    if replace and to:
        raise typer.BadParameter("--to names a new table, --replace takes the place of the live one: choose")
    now = datetime.now(UTC)
    snapshots = _open(dry_run)
    if at is None:
        restored = snapshots.restore(name, to, now, replace=replace)
    else:
        restored = snapshots.restore_as_of(name, at, to, now, replace=replace)
    if dry_run:
        _show_statements(snapshots, json=json)
    elif json:
        _print_json(restored)
    else:
        _announce(restored, snapshots.settings.archive_bucket)


def _open(dry_run: bool) -> Snapshots:
    settings = Settings.from_environment()
    return Snapshots(bigquery_client(settings), settings, dry_run)


def _announce(restored: Restored, bucket: str) -> None:
    if restored.before is None:
        print(f"{restored.table} has {restored.rows} rows, as of {restored.as_of:%Y-%m-%d %H:%M:%S} UTC.")  # noqa: T201
        print("Look at it, then run the same again with --replace, or copy the rows that you miss.")  # noqa: T201
        return
    print(f"{restored.table} is as of {restored.as_of:%Y-%m-%d %H:%M:%S} UTC: {restored.rows} rows.")  # noqa: T201
    print(f"What it was before is the snapshot {restored.before}.")  # noqa: T201
    print("Next: load what came since, for each day from that one on:")  # noqa: T201
    print(f"  sluice backfill {layout.address(bucket, layout.day_prefix(restored.as_of))}")  # noqa: T201


def _show(snapshots: list[Snapshot], *, json: bool) -> None:
    if json:
        _print_json(snapshots)
        return
    table = Table(Column("snapshot", overflow="fold"), "table", "taken at", "expires at")
    for snapshot in snapshots:
        table.add_row(
            snapshot.snapshot, snapshot.table, f"{snapshot.taken_at:%Y-%m-%d %H:%M}", _time(snapshot.expires_at)
        )
    Console().print(table)


def _time(parse_time: datetime | None) -> str:
    return "never" if parse_time is None else f"{parse_time:%Y-%m-%d %H:%M}"


def _show_statements(snapshots: Snapshots, *, json: bool) -> None:
    if json:
        _print_json(snapshots.statements)
    else:
        print("\n\n".join(f"{statement.strip()};" for statement in snapshots.statements))  # noqa: T201


def _print_json(value: Any) -> None:  # noqa: ANN401
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())  # noqa: T201
