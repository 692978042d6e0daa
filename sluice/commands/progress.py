"""Progress and result of a backfill run, as all commands that load events show them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sluice.commands.error_messages import message
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.formatting import print_rows

if TYPE_CHECKING:
    from functions.files.id_fields import WithoutId
    from functions.files.sources import Lines
    from sluice.backfill.run import Backfill, BackfillReport

console = Console(stderr=True)


def run(
    backfill: Backfill, sources: Iterable[Lines], total: int | None = None, *, of_events: bool = False
) -> BackfillReport:
    """Run a backfill and show its progress.

    Args:
        backfill: The run.
        sources: Sources of the lines.
        total: Total size of the sources in bytes, or their number of events with `of_events`; None where unknown.
        of_events: Whether the sources report their progress in events instead of bytes.
    """
    done: ProgressColumn = MofNCompleteColumn() if of_events else DownloadColumn()
    lines = TextColumn("{task.fields[lines]} lines")
    columns = (lines, BarColumn(), done, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, lines=0)
        advance = functools.partial(_advance, progress, task, backfill.report)
        report = backfill(sources, advance)
        advance(0)
        return report


def _advance(progress: Progress, task: TaskID, report: BackfillReport, read: int) -> None:
    progress.update(task, advance=read, lines=report.lines)


def report_as_json(report: BackfillReport) -> dict[str, object]:
    """Return the counts of a run as a JSON object, with failures in the words of `print_error`."""
    return {**report.as_json(), "failures": [message(failure) for failure in report.failures]}


@dataclasses.dataclass(frozen=True, slots=True)
class FinishedBackfill:
    """Result of a finished run.

    Attributes:
        report: Counts of the run.
        sources: Number of sources.
        seconds: Duration in seconds.
        dry_run: Whether nothing was written.
    """

    report: BackfillReport
    sources: int
    seconds: float
    dry_run: bool

    def as_json(self) -> dict[str, object]:
        """Return the counts."""
        return {
            "dry_run": self.dry_run,
            "sources": self.sources,
            **report_as_json(self.report),
            "seconds": round(self.seconds, 3),
        }

    def print_json(self, **more: object) -> None:
        """Print the counts and more fields to standard output as JSON."""
        print(msgspec.json.encode({**self.as_json(), **more}).decode())  # noqa: T201

    def show(self, *, as_csv: bool) -> None:
        """Print the counts to standard output as a table or CSV."""
        report = self.report
        loaded = "would be loaded" if self.dry_run else "loaded"
        rows: list[tuple[str | Text, object]] = [
            *((f"{name}: rows {loaded}", count) for name, count in sorted(report.rows.items())),
            *((f"dead letters {loaded}: {name}", count) for name, count in sorted(report.dead_letters.items())),
            *((f"{name}: rows already present", count) for name, count in sorted(report.rows_present.items())),
            *(
                (f"dead letters already present: {name}", count)
                for name, count in sorted(report.dead_letters_present.items())
            ),
            ("repetitions of an earlier line", report.repeated),
        ]
        if report.smoke_tests:
            rows.append(("events of the smoke test, skipped", report.smoke_tests))
        if report.without_id.count:
            rows.append((Text("without the id of --id-field", "bold red"), report.without_id.count))
        if report.running:
            running = sum(job.lines for job in report.running)
            rows.append((Text("in load jobs that are still running", "bold red"), running))
        if report.unfinished:
            rows.append((Text("not loaded", "bold red"), report.unfinished))
        rows.append((f"read (sources: {self.sources})", report.lines))
        title = "Dry run: nothing was written" if self.dry_run else ""
        print_rows(("what", "lines"), rows, as_csv=as_csv, title=title)
        console.print(f"{self.seconds:.1f} s, {report.lines / self.seconds:.0f} lines/s")

    def end(self) -> None:
        """Print what failed.

        Raises:
            typer.Exit: A part failed, a line has no id, or the run was interrupted.
        """
        report = self.report
        for failure in report.failures:
            print_error("Failed:", failure)
        print_lines_without_id("Not loaded:", report.without_id)
        if report.same_id:
            loaded = "would be loaded" if self.dry_run else "are loaded"
            console.print(
                f"Events with the id of an earlier line but different content: {report.same_id}. All {loaded}; the"
                " views show one event for each id and day.",
                soft_wrap=True,
            )
        if report.rounded_numbers:
            console.print(f"Numbers rounded to the nine decimals of NUMERIC: {report.rounded_numbers}.")
        for job in report.running:
            print_error("Still running:", f"load job {job.job_id}: {job.load}, {job.lines} lines")
        if report.interrupted:
            if report.complete_to and not self.dry_run:
                console.print(f"All events are loaded up to {escape(report.complete_to)}.", soft_wrap=True)
            waits = ", waits for the running load jobs" if report.running else ""
            resume = (
                "Nothing was written."
                if self.dry_run
                else "To resume, run the command again with the same sources: it skips what is loaded" + waits + "."
            )
            console.print(f"[bold]Interrupted.[/] {resume}", soft_wrap=True)
            raise typer.Exit(ExitCode.INTERRUPTED)
        if report.failures and not self.dry_run:
            console.print("Loaded events are kept. Fix the cause, then run the command again: it skips what is loaded.")
        if report.failures or report.without_id.count:
            raise typer.Exit(ExitCode.FAILED)


def print_lines_without_id(what: str, without_id: WithoutId) -> None:
    """Print the first lines without the id of `--id-field`, and the number of the others."""
    for line in without_id.first:
        print_error(what, line)
    if without_id.count > len(without_id.first):
        console.print(f"... and {without_id.count - len(without_id.first)} more lines without the id.")
