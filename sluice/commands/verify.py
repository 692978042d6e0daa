"""`sluice verify`: what a person sees of it."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from functions.clients import bigquery_client, storage_client
from functions.settings import Settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.local.stack import topic_name
from sluice.verify.check import Check, Finding, Outcome
from sluice.verify.checks import CHECKS, findings
from sluice.verify.load import Load
from sluice.verify.project import Failed, Project, Unknown
from sluice.verify.under_load import Observer

_console = Console(stderr=True, soft_wrap=True, highlight=False)

_COLOURS = {Outcome.OK: "green", Outcome.FAIL: "bold red", Outcome.UNKNOWN: "yellow", Outcome.SKIPPED: "dim"}


def verify(
    load: Annotated[
        float | None,
        typer.Option(
            min=60,
            help="Publish events of the smoke test for so many seconds, and check what happens meanwhile instead.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Events per second, with --load.")] = 20,
    topic: Annotated[
        str, typer.Option(help="Topic, with --load, as projects/PROJECT/topics/TOPIC.", envvar="SLUICE_TOPIC")
    ] = topic_name(),
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
) -> None:
    """Check a deployment in Google Cloud: what neither the local stack nor a plan of Terraform can show.

    Run `sluice smoke` before, so that there is something to see. It reads Google Cloud's APIs, changes nothing, and
    takes less than ten minutes. With --load it publishes events, during which you lose a worker, drain or update the
    job, or switch the engine (docs/dataflow.md); then no event may be missing. Exit code 0: all checks passed or do not
    apply; 1: one failed, or could not be made.

    Example: sluice smoke && sluice verify
    """
    settings = Settings.from_environment()
    project = Project.with_default_credentials(settings)
    test = None if load is None else Load(bigquery_client(settings), storage_client(settings), settings)
    results: list[Finding] = []
    try:
        checks = CHECKS if test is None or load is None else _under_load(project, test, topic, rate, load)
        with _console.status("checking") as status:
            for finding in findings(project, checks=checks):
                results.append(finding)
                status.update(f"{len(results)} of {len(checks)} checks are done")
    finally:  # Ctrl-C, too, leaves what was found until then.
        if as_json:
            print(msgspec.json.encode(results).decode())  # noqa: T201
        else:
            Console().print(_table(results))
        if test is not None and test.published and test.delete():
            _console.print("BigQuery keeps the rows for now. In two hours: sluice smoke --clean")
    wrong = sum(result.outcome in {Outcome.FAIL, Outcome.UNKNOWN} for result in results)
    if wrong:
        _console.print(f"[bold red]{wrong} of {len(results)} checks did not pass.[/] docs/verify.md explains each.")
        raise typer.Exit(ExitCode.FAILED)
    _console.print(f"All {len(results)} checks passed or do not apply.")


def _under_load(project: Project, test: Load, topic: str, rate: float, seconds: float) -> Sequence[Check]:
    """Publish events while something happens to the deployment; return the checks of what did.

    Raises:
        typer.Exit: With `ExitCode.FAILED`: the deployment cannot be looked at, so nothing was published.
    """
    try:
        observer = Observer(project)
        commands = observer.commands(project)
    except (Failed, Unknown) as error:
        print_error("Failed:", error)
        raise typer.Exit(ExitCode.FAILED) from error
    _console.print(f"Publishing for {seconds:.0f} s, as {test.run}. Try meanwhile one of these:")
    for command in commands:
        _console.print(f"  {command}", markup=False)
    with _console.status("publishing"):
        test.publish(topic, rate, seconds)
    return observer.checks(test)


def _table(results: list[Finding]) -> Table:
    table = Table("check", "", "what was seen")
    for result in results:
        table.add_row(result.check, Text(result.outcome, _COLOURS[result.outcome]), Text(result.seen))
    return table
