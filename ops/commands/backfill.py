"""`sluice backfill`: what a person sees of it."""

import functools
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from functions.archive import Archive
from functions.clients import bigquery_client, storage_client
from functions.settings import Settings
from ops.backfill.events import EventReader
from ops.backfill.load_jobs import LoadJobs
from ops.backfill.run import FAILURES, Backfill, Report
from ops.backfill.sources import Source, find
from ops.commands.ending import ExitCode, tell

console = Console(stderr=True)


def backfill(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files, folders, globs, gs://BUCKET/PREFIX: NDJSON of events or of the archive, compressed or not.",
            show_default=False,
        ),
    ],
    schema_version: Annotated[
        int | None, typer.Option(min=1, help="Contract of the events that are in no envelope; default: the newest.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Process everything, write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the counts as JSON to standard output.")] = False,
) -> None:
    """Load events of the past: by their date into the live or the historical tables, each once.

    What cannot become a row becomes a dead letter. What is there already is left alone, so a run that was interrupted
    goes on when it is started again.

    Exit code 0: all is there; 1: something could not be read or loaded; 2: a setting is wrong; 130: interrupted.
    """
    started = time.monotonic()
    settings = Settings.from_environment()
    storage = functools.cache(lambda: storage_client(settings))
    read = EventReader.from_settings(settings, datetime.now(UTC), schema_version)
    found = find(sources, storage)
    jobs = _open(settings, dry_run=dry_run)
    archive = None if dry_run else Archive(storage(), settings.archive_bucket, read.process.contracts.event_types)
    report = _run(Backfill(read, jobs, archive), found)
    seconds = time.monotonic() - started
    if as_json:
        print(msgspec.json.encode(_as_json(report, found, seconds, dry_run=dry_run)).decode())  # noqa: T201
    else:
        _show(report, found, seconds, dry_run=dry_run)
    for failure in report.failures:
        tell("Failed:", failure)
    if report.interrupted:
        console.print("[bold]Interrupted.[/] Start it again, and it goes on.")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if report.failures:
        console.print("What was loaded stays. Start it again when the cause is gone, and it goes on.")
        raise typer.Exit(ExitCode.FAILED)


def _open(settings: Settings, *, dry_run: bool) -> LoadJobs | None:
    try:
        return LoadJobs.open(bigquery_client(settings), settings)
    except FAILURES as error:
        if not dry_run:
            raise
        tell("BigQuery does not say what is there already:", error)
        return None


def _run(backfill: Backfill, sources: Sequence[Source]) -> Report:
    columns = (
        TextColumn("{task.fields[lines]} lines"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=sum(source.size for source in sources), lines=0)
        advance = functools.partial(_advance, progress, task, backfill.report)
        report = backfill(sources, advance)
        advance(0)
        return report


def _advance(progress: Progress, task: TaskID, report: Report, read: int) -> None:
    progress.update(task, advance=read, lines=report.lines)


def _as_json(report: Report, sources: Sequence[Source], seconds: float, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "sources": len(sources),
        **msgspec.to_builtins(report),
        "unfinished": report.unfinished,
        "seconds": round(seconds, 3),
    }


def _show(report: Report, sources: Sequence[Source], seconds: float, *, dry_run: bool) -> None:
    loaded = "would be loaded" if dry_run else "loaded"
    table = Table("", "lines", title="Dry run: nothing was written" if dry_run else None, title_justify="left")
    table.columns[1].justify = "right"
    for name, count in sorted(report.rows.items()):
        table.add_row(f"{name}: rows {loaded}", f"{count}")
    for name, count in sorted(report.dead_letters.items()):
        table.add_row(f"dead letters {loaded}: {name}", f"{count}")
    for name, count in sorted(report.rows_present.items()):
        table.add_row(f"{name}: there before", f"{count}")
    for name, count in sorted(report.dead_letters_present.items()):
        table.add_row(f"dead letters there before: {name}", f"{count}")
    table.add_row("repeat an earlier line", f"{report.repeated}")
    if report.unfinished:
        table.add_row("not done", f"{report.unfinished}", style="bold red")
    table.add_section()
    table.add_row(f"read (sources: {len(sources)})", f"{report.lines}")
    Console().print(table)
    console.print(f"{seconds:.1f} s, {report.lines / seconds:.0f} lines/s")
