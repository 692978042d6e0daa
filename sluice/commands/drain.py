"""The command `sluice drain`."""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sluice.commands.command_settings import command_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import Json
from sluice.formatting import print_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.drain.drain import DrainReport
    from functions.drain.loads import LoadReport, Loads
    from functions.drain.pending_loads import PendingLoad
    from functions.settings import Settings

console = Console(stderr=True, soft_wrap=True)

_PAUSE = 1.0
"""Seconds between two looks at the load jobs."""


def drain(
    loads_only: Annotated[
        bool, typer.Option("--loads-only", help="Pull nothing; only finish the load jobs of earlier runs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Pull and write nothing; show which load files are not loaded yet.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pull what has arrived in SUBSCRIPTION, archive it, and wait until load jobs have brought it into the tables.

    It is what the function `drain` does, here with your own credentials and until all is loaded. Both may run at the
    same time. A run that ended early is resumed by running the command again.

    Examples:
        sluice drain
        sluice drain --loads-only
        sluice drain --dry-run

    Exit code 0: all is loaded; 1: load files are not loaded, or Google Cloud rejected a request; 2: a setting is wrong;
    130: interrupted.
    """
    settings = command_settings()
    if dry_run:
        _show_pending(_pending(settings)(), as_json=as_json)
        return
    from functions.drain.drain import Drain, DrainReport
    from functions.drain.limits import MAX_SECONDS

    started, report = time.monotonic(), DrainReport()
    run = None if loads_only else Drain.build(settings)
    try:
        with _showing(report) as show, _printing_failures():
            if run:
                run.pull(report, run.system.monotonic() + MAX_SECONDS)
            pending = _finish(run.loads if run else _loads(settings), _pending(settings), report, show)
    except BaseException as error:
        if report.messages or isinstance(error, KeyboardInterrupt):
            console.print(
                f"{report.messages} messages are durable. The next run loads them, and pulls the others again."
            )
        raise
    report.seconds = round(time.monotonic() - started, 3)
    if as_json:
        fields = report.fields | {"is_empty": run and report.is_empty, "pending": _as_json(pending)}
        del fields["errors"]  # An error has ended the command.
        typer.echo(msgspec.json.encode(fields).decode())
    else:
        _show(report)
    for load in pending:
        when = f" after {load.paused_until:%H:%M:%S} UTC" if load.paused_until else ""
        text = f"{load.table}: load files that are not loaded: {len(load.files)}; the next run{when} repeats it"
        print_error("Failed:", text)
    if run and not report.is_empty:
        console.print("Messages are left in the subscription: the next run pulls them.")
    if pending:
        raise typer.Exit(ExitCode.FAILED)


def _loads(settings: Settings) -> Loads:
    from functions.clients import bigquery_client, storage_client
    from functions.core.pipeline import EventPipeline
    from functions.drain.drain import build_loads

    client, storage = bigquery_client(settings), storage_client(settings)
    return build_loads(settings, EventPipeline.from_settings(settings), client, storage)


def _pending(settings: Settings) -> Callable[[], list[PendingLoad]]:
    """Return a function that reads what is pending."""
    from functions.clients import storage_client
    from functions.drain.pending_loads import pending_loads

    bucket = storage_client(settings).bucket(settings.archive_bucket)
    return lambda: pending_loads(bucket, settings.flush_timeout)


def _finish(
    loads: Loads, read: Callable[[], list[PendingLoad]], report: DrainReport, show: Callable[[str], None]
) -> list[PendingLoad]:
    """Advance the load jobs until the files that exist now are loaded; return those of them that a later run loads.

    Their names are kept, not the time: the files have that of their writers, whose clocks may differ from this one.
    """
    from functions.drain.ledger import LedgerReplaced
    from functions.drain.loads import LoadReport

    names = {file.name for load in read() for file in load.files}
    total = report.loads = LoadReport()
    while True:
        latest = LoadReport()
        with contextlib.suppress(LedgerReplaced):  # Another run has just done the same.
            latest = loads.advance()
        _add(latest, total)
        pending = [load for every in read() if (load := every.among(names))]
        if not pending or latest.unstarted_jobs:
            return pending
        if paused := [load for load in pending if load.paused_until]:
            return paused
        show(f"{sum(len(load.files) for load in pending)} load files are being loaded")
        time.sleep(_PAUSE)


def _add(latest: LoadReport, total: LoadReport) -> None:
    total.started_jobs += latest.started_jobs
    total.loaded_rows += latest.loaded_rows
    total.failed_jobs += latest.failed_jobs
    total.unstarted_jobs += latest.unstarted_jobs
    total.pending_files, total.pending_seconds = latest.pending_files, latest.pending_seconds


@contextlib.contextmanager
def _showing(report: DrainReport) -> Iterator[Callable[[str], None]]:
    """Show the progress on a terminal while the context lasts."""
    columns = (SpinnerColumn(), TextColumn("{task.fields[report].messages} messages are durable{task.description}"))
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None, report=report)
        yield lambda text: bar.update(task, description=f", {text}")


class _Failures(logging.Handler):
    """Prints what the function logs about load jobs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, except that of a chunk: its exception ends the command."""
        if record.getMessage() != "flush":
            fields = [f"{name} {value}" for name, value in getattr(record, "fields", {}).items()]
            print_error("Failed:", ", ".join([record.getMessage(), *fields]))


@contextlib.contextmanager
def _printing_failures() -> Iterator[None]:
    logger, failures = logging.getLogger("functions.main"), _Failures(logging.WARNING)
    logger.addHandler(failures)
    try:
        yield
    finally:
        logger.removeHandler(failures)


def _show(report: DrainReport) -> None:
    loads = report.loads
    rows = [("messages drained", report.messages), ("load jobs started", loads.started_jobs if loads else 0)]
    rows += [
        ("rows loaded", loads.loaded_rows if loads else 0),
        ("load jobs failed", loads.failed_jobs if loads else 0),
    ]
    print_rows(("what", "count"), rows)
    console.print(f"{report.seconds:.1f} s")


def _as_json(pending: list[PendingLoad]) -> list[dict[str, object]]:
    return [load._asdict() | {"files": len(load.files), "oldest": load.oldest} for load in pending]


def _show_pending(pending: list[PendingLoad], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode({"dry_run": True, "pending": _as_json(pending)}).decode())
        return
    now = datetime.now(UTC)
    rows = [
        (load.table, len(load.files), f"{(now - load.oldest).total_seconds():.0f} s", load.job_id, load.paused_until)
        for load in pending
    ]
    if rows:
        print_rows(("table", "load files", "oldest", "load job", "paused until"), rows)
    else:
        console.print("No load files are pending.")
