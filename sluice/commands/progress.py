"""The progress and the result of a run of the backfill, as each command shows them."""

import dataclasses
import functools
from collections.abc import Iterable

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
from rich.table import Table

from functions.files.id_fields import WithoutId
from functions.files.sources import Lines
from sluice.backfill.run import Backfill, BackfillReport
from sluice.commands.exit_codes import ExitCode, print_error

console = Console(stderr=True)


def run(
    backfill: Backfill, sources: Iterable[Lines], total: int | None = None, *, of_events: bool = False
) -> BackfillReport:
    """Run it, with its progress.

    Args:
        backfill: The run.
        sources: The sources of its lines.
        total: How much they report in all: bytes, unless `of_events`; None: it is not known.
        of_events: Whether they report events.
    """
    done: ProgressColumn = MofNCompleteColumn() if of_events else DownloadColumn()
    lines = TextColumn("{task.fields[lines]} lines")
    columns = (lines, BarColumn(), done, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, lines=0)
        advance = functools.partial(_advance, progress, task, backfill.report)
        report = backfill(sources, advance)
        advance(0)
        return report


def _advance(progress: Progress, task: TaskID, report: BackfillReport, read: int) -> None:
    progress.update(task, advance=read, lines=report.lines)


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A run that is over.

    Attributes:
        report: Its counts.
        sources: Number of its sources.
        seconds: Its duration in seconds.
        dry_run: Whether it was one.
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
            **self.report.as_json(),
            "seconds": round(self.seconds, 3),
        }

    def print_json(self, **more: object) -> None:
        """Write the counts, and more, to standard output."""
        print(msgspec.json.encode({**self.as_json(), **more}).decode())  # noqa: T201

    def show(self) -> None:
        """Write the counts as a table to standard output."""
        report = self.report
        loaded = "would be loaded" if self.dry_run else "loaded"
        table = Table("", "lines", title="Dry run: nothing was written" if self.dry_run else None, title_justify="left")
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
        if report.smoke_tests:
            table.add_row("of the smoke test, left out", f"{report.smoke_tests}")
        if report.without_id.count:
            table.add_row("without the id that was asked for", f"{report.without_id.count}", style="bold red")
        if report.running:
            table.add_row(
                "in load jobs that still run", f"{sum(job.lines for job in report.running)}", style="bold red"
            )
        if report.unfinished:
            table.add_row("not done", f"{report.unfinished}", style="bold red")
        table.add_section()
        table.add_row(f"read (sources: {self.sources})", f"{report.lines}")
        Console().print(table)
        console.print(f"{self.seconds:.1f} s, {report.lines / self.seconds:.0f} lines/s")

    def end(self) -> None:
        """Report what failed.

        Raises:
            typer.Exit: Something did, a line has no id, or the run was interrupted.
        """
        report = self.report
        for failure in report.failures:
            print_error("Failed:", failure)
        print_lines_without_id("Not loaded:", report.without_id)
        if report.same_id:
            loaded = "would be loaded" if self.dry_run else "are loaded"
            console.print(
                f"{report.same_id} events have the id of an earlier line and another content. All {loaded}; the views"
                " show one of each id and day.",
                soft_wrap=True,
            )
        for job in report.running:
            print_error("Still running:", f"load job {job.job_id}: {job.load}, {job.lines} lines")
        if report.interrupted:
            if report.complete_to:
                console.print(f"All is there up to {escape(report.complete_to)}.", soft_wrap=True)
            waits = ", waits for the load jobs that still run" if report.running else ""
            console.print(
                f"[bold]Interrupted.[/] Start it again with the same sources: it goes on{waits}.", soft_wrap=True
            )
            raise typer.Exit(ExitCode.INTERRUPTED)
        if report.failures:
            console.print("What was loaded stays. Start it again when the cause is gone, and it goes on.")
        if report.failures or report.without_id.count:
            raise typer.Exit(ExitCode.FAILED)


def print_lines_without_id(what: str, without_id: WithoutId) -> None:
    """Name the first lines that lack the id that was asked for, and say how many they are."""
    for line in without_id.first:
        print_error(what, line)
    if without_id.count > len(without_id.first):
        console.print(f"... and {without_id.count - len(without_id.first)} more lines without the id.")
