"""What a person sees of a run of the backfill, whichever command it is of."""

import dataclasses
import functools
from collections.abc import Iterable

import msgspec
import typer
from rich.console import Console
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

from ops.backfill.run import Backfill, Report
from ops.backfill.sources import Lines
from ops.commands.ending import ExitCode, tell

console = Console(stderr=True)


def run(backfill: Backfill, sources: Iterable[Lines], total: int | None = None, *, of_events: bool = False) -> Report:
    """Run it, with its progress.

    Args:
        backfill: The run.
        sources: Of its lines.
        total: How much they tell that they have read in the end: bytes, unless `of_events`; None: nobody knows.
        of_events: Whether they tell of events.
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


def _advance(progress: Progress, task: TaskID, report: Report, read: int) -> None:
    progress.update(task, advance=read, lines=report.lines)


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """A run that is over.

    Attributes:
        report: What it did.
        sources: How many sources it had.
        seconds: How long it took.
        dry_run: Whether it was one.
    """

    report: Report
    sources: int
    seconds: float
    dry_run: bool

    def as_json(self) -> dict[str, object]:
        """The counts."""
        return {
            "dry_run": self.dry_run,
            "sources": self.sources,
            **msgspec.to_builtins(self.report),
            "unfinished": self.report.unfinished,
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
        if report.unfinished:
            table.add_row("not done", f"{report.unfinished}", style="bold red")
        table.add_section()
        table.add_row(f"read (sources: {self.sources})", f"{report.lines}")
        Console().print(table)
        console.print(f"{self.seconds:.1f} s, {report.lines / self.seconds:.0f} lines/s")

    def end(self) -> None:
        """Say what failed.

        Raises:
            typer.Exit: Something did, or the run was interrupted.
        """
        for failure in self.report.failures:
            tell("Failed:", failure)
        if self.report.interrupted:
            console.print("[bold]Interrupted.[/] Start it again, and it goes on.")
            raise typer.Exit(ExitCode.INTERRUPTED)
        if self.report.failures:
            console.print("What was loaded stays. Start it again when the cause is gone, and it goes on.")
            raise typer.Exit(ExitCode.FAILED)
