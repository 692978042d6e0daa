"""The command `sluice reconcile`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from sluice.commands.command_settings import command_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import Csv, Json, check_order, parse_past_time, parse_time
from sluice.formatting import print_rows, printable

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

    from functions.reconcile.findings import EventRef, Reconciliation
    from functions.reconcile.reconciler import Reconciler
    from functions.settings import Settings
    from sluice.backfill.run import BackfillReport

console = Console(stderr=True)

_DAY = timedelta(days=1)
_SHOWN = 10
_ALWAYS_SHOWN = ("archived", "matched", "missing")
"""Counts that the table shows even if they are 0."""


def reconcile(
    start: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            parser=parse_past_time,
            metavar="TIME",
            help="Start of the arrival times: a time, or 4h, 7d ago; default: a day before the end.",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option(
            "--to",
            parser=parse_time,
            metavar="TIME",
            help="End of the arrival times; default: twice FLUSH_TIMEOUT ago, when all flushes have ended.",
            show_default=False,
        ),
    ] = None,
    contents: Annotated[
        bool, typer.Option("--contents", help="Also compare the payloads with the stored columns; reads all columns.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Load missing events from the archive, as `sluice backfill` does.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --repair: report what would be loaded.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Compare the archive, which has every received event, with rows and dead letters.

    Events are compared by id, type and hour of arrival.

    Examples:
        sluice reconcile --from 24h
        sluice reconcile --from 2026-11-23 --to 2026-11-24 --contents
        sluice reconcile --from 7d --repair

    Exit code 0: no event is missing or different, or all missing events were loaded; 1: an event is missing, different
    or unreadable; 2: a setting or an option is wrong; 130: interrupted.
    """
    if dry_run and not repair:
        raise typer.BadParameter("--dry-run needs --repair; without it, nothing is written", param_hint="--dry-run")
    settings = command_settings()
    now = datetime.now(UTC)
    end = min(end or now - timedelta(seconds=2 * settings.flush_timeout), now)
    start = start or end - _DAY
    check_order(start, end)
    from functions.clients import bigquery_client, storage_client
    from functions.core.contracts import Contracts
    from functions.core.privacy import Privacy
    from functions.reconcile.reconciler import Reconciler
    from sluice.record_comparison import ContentComparison

    compare = ContentComparison(Contracts.load(), Privacy.from_settings(settings)) if contents else None
    client, storage = bigquery_client(settings), storage_client(settings)
    _check_loads(storage.bucket(settings.archive_bucket), end, repair=repair and not dry_run)
    reconciliation = _run(Reconciler(client, storage, settings, compare), start, end)
    report = _repair(reconciliation, settings, now, dry_run=dry_run) if repair and reconciliation.incomplete else None
    if as_json:
        print(msgspec.json.encode(_as_json(reconciliation, start, end, report)).decode())  # noqa: T201
    else:
        _show(reconciliation, start, end, as_csv=as_csv)
        if report:
            _show_repair(report, dry_run=dry_run)
        elif reconciliation.incomplete:
            console.print(
                "`sluice trace EVENT_ID --date DAY` shows an event;"
                " `sluice reconcile --repair` loads the missing events.",
                soft_wrap=True,
            )
    for failure in report.failures if report else ():
        print_error("Failed:", failure)
    if report and report.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not _is_success(reconciliation, report, dry_run=dry_run):
        raise typer.Exit(ExitCode.FAILED)


def _check_loads(bucket: Bucket, end: datetime, *, repair: bool) -> None:
    """Say that what batch mode has not loaded yet seems to be missing. A repair would load it a second time."""
    from functions.archive.pending import load_files

    files = [file for file in load_files(bucket) if file.written < end]
    if not files:
        return
    oldest = min(file.written for file in files)
    pending = f"{len(files)} load files are not loaded yet, the oldest of {oldest:%Y-%m-%d %H:%M:%S} UTC"
    if repair:
        print_error(
            "Not repaired:", f"{pending}: their events would be loaded twice. `sluice drain --loads-only` first."
        )
        raise typer.Exit(ExitCode.FAILED)
    console.print(
        f"{pending}: their events seem to be missing. `sluice drain --loads-only` loads them.", soft_wrap=True
    )


def _run(reconciler: Reconciler, start: datetime, end: datetime) -> Reconciliation:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{start:%Y-%m-%d %H:%M}", total=(end - start).total_seconds())

        def advance(time: datetime) -> None:
            progress.update(task, completed=(time - start).total_seconds(), description=f"{time:%Y-%m-%d %H:%M}")

        return reconciler(start, end, advance)


def _repair(reconciliation: Reconciliation, settings: Settings, now: datetime, *, dry_run: bool) -> BackfillReport:
    from functions.clients import storage_client
    from sluice.backfill.builder import BackfillBuilder
    from sluice.replay.archived import named
    from sluice.replay.ledger import Ledger, ReplaySource

    builder = BackfillBuilder.connect(settings, now, dry_run=dry_run)
    listeners = [] if dry_run else [Ledger.of_backfill(builder, ReplaySource.ARCHIVE)]
    return builder.build(*listeners)(named(storage_client(settings), sorted(reconciliation.incomplete)))


def _is_success(reconciliation: Reconciliation, report: BackfillReport | None, *, dry_run: bool) -> bool:
    if reconciliation.is_complete:
        return True
    is_repaired = report is not None and not dry_run and report.is_complete
    return is_repaired and not reconciliation.different and not reconciliation.unreadable


def _as_json(
    reconciliation: Reconciliation, start: datetime, end: datetime, report: BackfillReport | None
) -> dict[str, object]:
    from sluice.commands.progress import report_as_json

    return {
        "from": start,
        "to": end,
        "complete": reconciliation.is_complete,
        "total": reconciliation.total,
        "hours": [
            {"hour": hour, "event_type": name, **dataclasses.asdict(account)}
            for (hour, name), account in sorted(reconciliation.accounts.items())
        ],
        "missing": [event._asdict() for event in reconciliation.missing],
        "different": [event._asdict() for event in reconciliation.different],
        "conflicting": [event._asdict() for event in reconciliation.conflicting],
        "unreadable": reconciliation.unreadable,
        "repair": report and report_as_json(report),
    }


def _show(reconciliation: Reconciliation, start: datetime, end: datetime, *, as_csv: bool) -> None:
    # All counts do not fit into 80 columns, so those that are 0 are left out; --json and --csv have all of them.
    counted = dataclasses.asdict(reconciliation.total)
    names = [name for name, count in counted.items() if as_csv or count or name in _ALWAYS_SHOWN]
    title = f"Arrived from {start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC"
    rows: list[Sequence[object]] = []
    for (hour, event_type), account in sorted(reconciliation.accounts.items()):
        style = "bold red" if account.missing or account.different else ""
        cells = (event_type, *(getattr(account, name) for name in names))
        hour_cell = hour if as_csv else f"{hour:%m-%d %H}h"
        rows.append((hour_cell, *(Text(printable(str(cell)), style) for cell in cells)))
    if not as_csv:
        rows.append(("all", "", *(counted[name] for name in names)))
    print_rows(("hour", "type", *names), rows, as_csv=as_csv, title=title)
    _print_events("Missing:", reconciliation.missing, reconciliation.total.missing)
    _print_events("Different:", reconciliation.different, reconciliation.total.different)
    _print_events("Same id, different content:", reconciliation.conflicting, reconciliation.total.conflicts)
    for problem in reconciliation.unreadable:
        print_error("Unreadable:", problem)
    if reconciliation.is_complete:
        console.print("[bold green]Nothing is missing.[/]")


def _print_events(what: str, events: list[EventRef], total: int) -> None:
    for event in events[:_SHOWN]:
        description = f" {printable(event.event_id)} ({printable(event.event_type)}), {event.archive_uri}"
        console.print(Text.assemble((what, "bold red"), description), soft_wrap=True)
    if total > _SHOWN:
        console.print(f"... and {total - _SHOWN} more; --json lists {len(events)}.")


def _show_repair(report: BackfillReport, *, dry_run: bool) -> None:
    loaded = "would be loaded" if dry_run else "loaded"
    console.print(
        f"Missing events {loaded}: {report.rows.total()} rows, {report.dead_letters.total()} dead letters;"
        f" already present: {report.rows_present.total() + report.dead_letters_present.total()}.",
        soft_wrap=True,
    )
