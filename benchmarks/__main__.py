"""`make bench`: measure, show, and keep what was measured."""

import pathlib
import tempfile
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import measured, page
from benchmarks.cells import LostEvents
from benchmarks.machine import can_pin
from benchmarks.plan import FULL, QUICK, Part
from benchmarks.results import FILE, Results, read
from benchmarks.runs import run
from benchmarks.tables import brief, tables
from benchmarks.targets import targets

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True)


@app.command()
def main(  # noqa: PLR0913, PLR0917 - options are arguments
    only: Annotated[list[Part] | None, typer.Option(help="Measure this part only; more than once for more.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few seconds of everything, in this environment: to see that it works.")
    ] = False,
    json: Annotated[
        pathlib.Path | None, typer.Option(dir_okay=False, help="Write the results there.", show_default=False)
    ] = None,
    show: Annotated[
        pathlib.Path | None,
        typer.Option(exists=True, help="Measure nothing: show the results of an earlier run.", show_default=False),
    ] = None,
    docs: Annotated[
        bool,
        typer.Option(
            "--docs",
            help="Write the tables and plots of docs/performance.md, those of the README, the results, and the inputs"
            " of the model of costs.",
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail when a target of what is measured is missed or has no value.")
    ] = False,
) -> None:
    """Measure Sluice against the plain function and an empty one, in one run.

    Exit code 1: an acknowledged event was lost, or with --check a target is missed or was not measured.
    """
    if docs and (only or quick):
        raise typer.BadParameter("the page shows whole runs only", param_hint="--docs")
    results = read(show) if show else _measure(only or list(Part), quick=quick)
    result_tables = tables(results)
    for table in result_tables:
        table.show()
    if json:
        results.write(json)
    if docs:
        from benchmarks import plots  # noqa: PLC0415 - it takes a second to import

        results.write(FILE)
        measured.of(results).write()
        plots.draw(results, plots.FOLDER)
        page.FILE.write_text(page.fill_tables(page.FILE.read_text(), result_tables))
        page.README.write_text(page.fill_tables(page.README.read_text(), [brief(results)]))
    asked = [target for target in targets(results) if target.part in (only or Part)]
    for target in asked:
        if target.is_met is None:
            console.print(f"[bold yellow]Target not measured:[/] {target.what}: {target.why_not}")
        elif not target.is_met:
            console.print(f"[bold yellow]Target missed:[/] {target.what}")
    if check and not all(target.is_met for target in asked):
        raise typer.Exit(1)


def _measure(parts: list[Part], *, quick: bool) -> Results:
    if not can_pin():
        console.print("[bold yellow]The function has no core of its own here:[/] it shares with what drives it.")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, Progress(*columns, console=console) as progress:
        task = progress.add_task("start", total=None)
        try:
            return run(
                QUICK if quick else FULL,
                parts,
                pathlib.Path(folder),
                lambda what: progress.update(task, description=what),
            )
        except LostEvents as error:
            progress.stop()
            console.print(f"[bold red]Lost:[/] {error}")
            raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
