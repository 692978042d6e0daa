"""The commands `sluice snapshot` and `sluice restore`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from functions.archive import layout
from sluice.commands.command_settings import command_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import Csv, Json, parse_time
from sluice.formatting import print_rows

if TYPE_CHECKING:
    from sluice.snapshots import Restored, Snapshot, Snapshots

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the statements instead of running them.")]


def snapshot(
    tables: Annotated[
        list[str] | None,
        typer.Argument(help="Tables of the live dataset; default: all, including `dead_letters` and `replays`."),
    ] = None,
    days: Annotated[int, typer.Option(help="Days to keep the snapshots.")] = 30,
    list_: Annotated[bool, typer.Option("--list", help="List the existing snapshots instead.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Take read-only snapshots of tables into the historical dataset.

    A snapshot may lack rows of the last 90 minutes, which are in the archive.

    Examples:
        sluice snapshot
        sluice snapshot orders --days 7
        sluice snapshot --list --json

    Exit code 0: all snapshots were taken; 1: a snapshot failed; 2: an argument or a setting is wrong.
    """
    snapshots = _open(dry_run, archive=False)
    from sluice.backfill.run import FAILURES
    from sluice.snapshots import SnapshotError, Snapshots

    if list_:
        _show(list(snapshots.taken()), as_json=as_json, as_csv=as_csv)
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
        _show_statements(snapshots, as_json=as_json)
    else:
        _show(taken, as_json=as_json, as_csv=as_csv)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def restore(
    name: Annotated[str, typer.Argument(help="A snapshot or, with --at, a table of the live dataset.")],
    at: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time,
            metavar="TIME",
            help="Restore the table as of this time: a time, or 90m, 24h ago; at most seven days ago.",
        ),
    ] = None,
    to: Annotated[str | None, typer.Option(help="Name of the new table; default: NAME_restored.")] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Replace the rows of the live table, after a snapshot of it. Stop the ingestion 90 minutes before:"
            " BigQuery cannot delete rows that were streamed more recently.",
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Restore a table from a snapshot or as of a time, with its partitions and clustering.

    The rows go into a new table of the live dataset, or into the live table with --replace.

    Examples:
        sluice restore orders_20261123T201500
        sluice restore orders --at 24h --to orders_yesterday
        sluice restore orders --at 2026-11-23T20:00:00Z --replace --dry-run

    Exit code 0: restored; 1: rejected or failed; 2: an argument or a setting is wrong.
    """
    if replace and to:
        raise typer.BadParameter(
            "--to and --replace exclude each other: --to names a new table, --replace replaces the live one"
        )
    now = datetime.now(UTC)
    snapshots = _open(dry_run, archive=replace)  # The next step is named: a backfill from the archive.
    if at is None:
        restored = snapshots.restore(name, to, now, replace=replace)
    else:
        restored = snapshots.restore_as_of(name, at, to, now, replace=replace)
    if dry_run:
        _show_statements(snapshots, as_json=as_json)
    elif as_json:
        _print_json(restored)
    else:
        _print_result(restored, snapshots.settings.archive_bucket)


def _open(dry_run: bool, *, archive: bool) -> Snapshots:
    settings = command_settings(archive=archive)
    from functions.clients import bigquery_client
    from sluice.snapshots import Snapshots

    return Snapshots(bigquery_client(settings), settings, dry_run)


def _print_result(restored: Restored, bucket: str) -> None:
    if restored.before is None:
        print(f"{restored.table} has {restored.rows} rows, as of {restored.as_of:%Y-%m-%d %H:%M:%S} UTC.")  # noqa: T201
        print("Check it, then run the same command with --replace, or copy the missing rows.")  # noqa: T201
        return
    print(f"{restored.table} is as of {restored.as_of:%Y-%m-%d %H:%M:%S} UTC: {restored.rows} rows.")  # noqa: T201
    print(f"Its previous rows are in the snapshot {restored.before}.")  # noqa: T201
    print("Next, load the events that arrived since then, for each day:")  # noqa: T201
    print(f"  sluice backfill {layout.address(bucket, layout.day_prefix(restored.as_of))}")  # noqa: T201


def _show(snapshots: list[Snapshot], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        _print_json(snapshots)
        return
    rows = [
        (snapshot.snapshot, snapshot.table, snapshot.taken_at, snapshot.expires_at or "never") for snapshot in snapshots
    ]
    print_rows(("snapshot", "table", "taken_at", "expires_at"), rows, as_csv=as_csv)


def _show_statements(snapshots: Snapshots, *, as_json: bool) -> None:
    if as_json:
        _print_json(snapshots.statements)
    else:
        print("\n\n".join(f"{statement.strip()};" for statement in snapshots.statements))  # noqa: T201


def _print_json(value: Any) -> None:  # noqa: ANN401
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())  # noqa: T201
