"""`python -m benchmarks.overload`: overload the services, and check whether the function recovers."""

import datetime
import pathlib
import tempfile
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import page, stand_in
from benchmarks.machine import OTHER_CORE, Machine, on_core
from benchmarks.overload import report
from benchmarks.overload.records import FILE, Records, read
from benchmarks.overload.run import DRAIN_SECONDS, Conditions, run
from benchmarks.overload.scenarios import SCENARIOS
from benchmarks.runs import revision
from sluice.package import ROOT

QUICK_PACE = 0.1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True)


@app.command()
def main(  # noqa: PLR0913, PLR0917 - options are arguments
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Run this scenario only; more than once for more: {', '.join(s.name for s in SCENARIOS)}."),
    ] = None,
    project: Annotated[
        pathlib.Path, typer.Option(exists=True, file_okay=False, help="Serve the function of this project.")
    ] = ROOT,
    setting: Annotated[
        list[str] | None, typer.Option(help="Set a variable of the function's environment: NAME=VALUE.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Take a tenth of all times: to see that it works.")] = False,
    drain: Annotated[
        float, typer.Option(help="Maximum seconds to wait until all messages are acknowledged at the end.")
    ] = DRAIN_SECONDS,
    logs: Annotated[
        pathlib.Path | None, typer.Option(file_okay=False, help="Keep the function's logs there.", show_default=False)
    ] = None,
    json: Annotated[
        pathlib.Path | None, typer.Option(dir_okay=False, help="Write the records there.", show_default=False)
    ] = None,
    show: Annotated[
        pathlib.Path | None,
        typer.Option(exists=True, help="Run nothing: show the records of an earlier run.", show_default=False),
    ] = None,
    docs: Annotated[
        bool, typer.Option("--docs", help="Keep the records, and write table and plot of docs/performance-overload.md.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail when a criterion is missed.")] = False,
) -> None:
    """Offer 80 % of the services' capacity, let them stall and slow down, and see whether goodput recovers.

    Exit code 1: with --check, a criterion is missed.
    """
    names = [scenario.name for scenario in SCENARIOS]
    if unknown := set(only or ()) - set(names):
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {'; '.join(names)}", param_hint="--only")
    if docs and (only or quick or setting):
        raise typer.BadParameter("the page shows whole runs only", param_hint="--docs")
    settings = dict(assignment.split("=", 1) for assignment in setting or ())
    if show:
        records = read(show)
    else:
        with tempfile.TemporaryDirectory(prefix="sluice-overload-") as folder:
            records = _run(only or names, project, settings, logs or pathlib.Path(folder), quick=quick, drain=drain)
    is_whole = [record.scenario for record in records.records if record.pace == 1] == names
    if docs and not is_whole:
        raise typer.BadParameter("the page shows whole runs only", param_hint="--docs")
    report.table({"": records}).show()
    if json:
        records.write(json)
    if docs:
        records.write(FILE)
        runs = report.kept()
        page.OVERLOAD.write_text(page.fill_tables(page.OVERLOAD.read_text(), report.tables(runs)))
        report.draw(runs)
    missed = [(record.scenario, sentence) for record in records.records for sentence in record.missed()]
    for scenario, sentence in missed:
        console.print(f"[bold yellow]Missed:[/] {scenario}: {sentence}")
    if check and missed:
        raise typer.Exit(1)


def _run(  # noqa: PLR0913 - the command's options
    names: list[str],
    project: pathlib.Path,
    settings: dict[str, str],
    logs: pathlib.Path,
    *,
    quick: bool,
    drain: float,
) -> Records:
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    logs.mkdir(parents=True, exist_ok=True)
    with on_core(OTHER_CORE), stand_in.running() as cloud:
        pace = QUICK_PACE if quick else 1.0
        conditions = Conditions(cloud, project.resolve(), settings, logs.resolve(), pace, drain, console.print)
        records = [run(scenario, conditions) for scenario in SCENARIOS if scenario.name in names]
    return Records(started=started, revision=revision(project), machine=Machine.here(), records=records)


if __name__ == "__main__":
    app()
