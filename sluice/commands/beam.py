"""The command `sluice beam`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import pathlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from sluice.commands.command_settings import check_stack, command_settings, read_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import Csv, DryRun, FilePatterns, IdFieldPaths, Json, SchemaVersion, id_fields
from sluice.commands.progress import print_lines_without_id
from sluice.formatting import print_rows, printable

if TYPE_CHECKING:
    from functions.settings import Settings
    from sluice.beam import BeamRun, Counts
    from sluice.local.process import Child

console = Console(stderr=True)

_PAUSE = 0.2
"""Seconds between two reads of the log."""

_MAX_LISTED = 20_000
"""Maximum files that are listed before the run begins, for its progress bar."""


def beam(
    files: FilePatterns,
    schema_version: SchemaVersion = None,
    id_field: IdFieldPaths = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    as_csv: Csv = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the log of Beam.")] = False,
    python: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Python interpreter with Apache Beam; default: that of `make beam`.",
            envvar="SLUICE_BEAM_PYTHON",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the Dataflow pipeline on this machine, from files into the live tables.

    Each event is written at least once with its original id, also if it is already loaded; the views show one row for
    each id. An event that is older than RETENTION_DAYS becomes a dead letter. `sluice backfill` loads old events too,
    and skips events that are already loaded.

    Examples:
        sluice beam gs://BUCKET/raw/dt=2026-11-23/ --dry-run
        sluice beam events.ndjson --id-field '$.order_id' --verbose

    Exit code 0: all events are written; 1: an event could not be written or has no id; 2: an option or a setting is
    wrong; 130: interrupted.
    """
    started = time.monotonic()
    paths = [field.path for field in id_fields(id_field)]
    if dry_run:  # It writes nothing, and needs no credentials for files of this machine.
        settings = read_settings()
        check_stack()
    else:
        settings = command_settings()
    from functions.ingest.http_client import bigquery_api, project
    from sluice.beam import BeamRun, find_python

    if not dry_run:  # Fail early without project or credentials.
        project(settings)
        bigquery_api()
    size = _size(files, settings)
    run = BeamRun(find_python(python), files, schema_version, paths, dry_run)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-beam-"))
    counts, code = _run(run, folder, size, verbose=verbose)
    if code == ExitCode.WRONG:
        shutil.rmtree(folder)
        print_error("Nothing was done:", counts.why)
        raise typer.Exit(code)
    done = PipelineResult(counts, time.monotonic() - started, dry_run)
    if as_json:
        print(msgspec.json.encode(done.as_json()).decode())  # noqa: T201
    else:
        done.show(as_csv=as_csv)
    if code == ExitCode.FAILED:
        print_error("Failed:", counts.why)
        console.print(f"Log: {folder / 'beam.log'}", soft_wrap=True)
    else:
        shutil.rmtree(folder)
    done.end(code)


def _size(files: Sequence[str], settings: Settings) -> int | None:
    """Return the total size of files in bytes; None for more than `_MAX_LISTED` files.

    Raises:
        Unreadable: A name matches no file, or a file cannot be read.
    """
    from functions.clients import storage_client
    from functions.files import sources

    storage = functools.cache(lambda: storage_client(settings))
    names = dict.fromkeys(files)
    for name in names:
        sources.check(name, storage)
    matched = itertools.chain.from_iterable(sources.matching(name, storage) for name in names)
    sizes = {source.name: source.size for source in itertools.islice(matched, _MAX_LISTED)}
    return None if len(sizes) == _MAX_LISTED else sum(sizes.values())


def _run(run: BeamRun, folder: pathlib.Path, size: int | None, *, verbose: bool) -> tuple[Counts, ExitCode]:
    """Run the pipeline and show its progress. Ctrl-C ends it."""
    from sluice.beam import Counts, whole_lines
    from sluice.local.process import running

    counts, code = Counts(), ExitCode.INTERRUPTED
    read = TextColumn("{task.fields[events]} events read, {task.fields[durable]} written")
    columns = (read, BarColumn(), DownloadColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    log = folder / "beam.log"
    log.touch()
    with (
        log.open(errors="replace") as text,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("", total=size, events=0, durable=0)

        def read_log() -> None:
            for line in whole_lines(text):
                counts.add(line)
                if verbose:
                    progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
            progress.update(task, completed=counts.bytes, events=counts.events, durable=counts.durable)

        with contextlib.suppress(KeyboardInterrupt), running("beam", run.command, folder, run.environment) as child:
            while child.exit_code() is None:
                read_log()
                time.sleep(_PAUSE)
            code = _exit_code(child, counts)
        read_log()
    if code == ExitCode.DONE and counts.events != counts.durable:
        counts.why, code = f"{counts.events} events were read, but only {counts.durable} are written", ExitCode.FAILED
    if code == ExitCode.FAILED:
        counts.why = counts.why or "Beam did not report a reason"
    return counts, code


def _exit_code(child: Child, counts: Counts) -> ExitCode:
    """Return the exit code of a run that has ended."""
    match child.exit_code():
        case ExitCode.DONE | ExitCode.WRONG as code:
            return ExitCode(code)
        case int(code) if code < 0:
            counts.why = f"signal {-code} ended Beam"
    return ExitCode.FAILED


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineResult:
    """Result of a finished run.

    Attributes:
        counts: Counts of the run.
        seconds: Duration in seconds.
        dry_run: Whether nothing was written.
    """

    counts: Counts
    seconds: float
    dry_run: bool

    def as_json(self) -> dict[str, object]:
        """Return the counts."""
        counts = self.counts
        return {
            "dry_run": self.dry_run,
            "files": counts.files,
            "events": counts.events,
            "rows": counts.rows,
            "dead_letters": counts.dead_letters,
            "smoke_tests": counts.smoke_tests,
            "without_id": counts.without_id.count,
            "unfinished": counts.unfinished,
            "objects": counts.objects,
            "object_bytes": counts.object_bytes,
            "seconds": round(self.seconds, 3),
        }

    def show(self, *, as_csv: bool) -> None:
        """Print the counts to standard output as a table or CSV."""
        counts = self.counts
        written = "would be written" if self.dry_run else "written"
        rows: list[tuple[str | Text, object]] = [
            (f"{name}: rows {written}", count) for name, count in sorted(counts.rows.items())
        ]
        rows += [(f"dead letters {written}: {name}", count) for name, count in sorted(counts.dead_letters.items())]
        if counts.smoke_tests:
            rows.append(("events of the smoke test, skipped", counts.smoke_tests))
        if counts.without_id.count:
            rows.append((Text("without the id of --id-field", "bold red"), counts.without_id.count))
        if counts.unfinished:
            rows.append((Text("not confirmed as written", "bold red"), counts.unfinished))
        rows.append((f"read (files: {counts.files})", counts.lines))
        title = "Dry run: nothing was written" if self.dry_run else ""
        print_rows(("what", "events"), rows, as_csv=as_csv, title=title)
        rate = f"{counts.events / self.seconds:.0f} events/s"
        objects = f"archive objects {written}: {counts.objects}, {decimal(counts.object_bytes)}"
        console.print(f"{objects}; {self.seconds:.1f} s, {rate}", soft_wrap=True)

    def end(self, code: ExitCode) -> None:
        """Print what is missing, and end the command.

        Raises:
            typer.Exit: The run failed, was interrupted, or skipped lines.
        """
        print_lines_without_id("Skipped:", self.counts.without_id)
        if code == ExitCode.INTERRUPTED:
            console.print("[bold]Interrupted.[/]")
        if code != ExitCode.DONE and not self.dry_run:
            console.print(
                "Written events are kept. Run the command again with the same files: it writes all events again, and"
                " the views show each event once.",
                soft_wrap=True,
            )
        if code == ExitCode.DONE and self.counts.without_id.count:
            code = ExitCode.FAILED
        if code != ExitCode.DONE:
            raise typer.Exit(code)
