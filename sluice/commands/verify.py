"""The command `sluice verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from sluice.commands.command_settings import check_topic, read_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import Csv, Json, Topic
from sluice.formatting import print_rows
from sluice.local.names import TOPIC

if TYPE_CHECKING:
    from sluice.verify.check import Check, Finding
    from sluice.verify.load import Load
    from sluice.verify.project import Project

_console = Console(stderr=True, soft_wrap=True, highlight=False)

_STYLES = {"ok": "green", "fail": "bold red", "unknown": "yellow", "skipped": "dim"}
"""Styles by `Outcome`."""


def verify(
    load: Annotated[
        float | None,
        typer.Option(
            min=60,
            help="Publish events of the smoke test for this many seconds, and check the deployment under load instead.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Events per second of --load.")] = 20,
    topic: Topic = TOPIC,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Check a deployment in Google Cloud for properties that need a real project.

    Run `sluice smoke` first, so that there are events. The command reads APIs of Google Cloud, changes nothing, and
    takes less than ten minutes. With --load, it publishes events while you kill a worker, drain or update the job, or
    switch the engine (docs/dataflow.md), and then checks that no event is missing.

    Examples:
        sluice smoke && sluice verify
        sluice verify --load 600 --rate 50

    Exit code 0: all checks passed or do not apply; 1: a check failed or could not be made; 2: an option or a setting is
    wrong.
    """
    from functions.clients import bigquery_client, storage_client
    from sluice.verify.check import Outcome
    from sluice.verify.checks import CHECKS, findings
    from sluice.verify.load import Load
    from sluice.verify.project import Project

    settings = read_settings()
    project = Project.with_default_credentials(settings)
    if load is not None:
        check_topic(topic)
    test = None if load is None else Load(bigquery_client(settings), storage_client(settings), settings)
    results: list[Finding] = []
    try:
        checks = CHECKS if test is None or load is None else _under_load(project, test, topic, rate, load)
        with _console.status("checking") as status:
            for finding in findings(project, checks=checks):
                results.append(finding)
                status.update(f"{len(results)} of {len(checks)} checks are done")
    finally:  # Print the findings also after Ctrl-C.
        if as_json:
            print(msgspec.json.encode(results).decode())  # noqa: T201
        else:
            _show(results, as_csv=as_csv)
        if test is not None and test.published and test.delete():
            _console.print("BigQuery cannot delete the rows yet. In two hours, run: sluice smoke --clean")
    wrong = sum(result.outcome in {Outcome.FAIL, Outcome.UNKNOWN} for result in results)
    if wrong:
        _console.print(f"[bold red]{wrong} of {len(results)} checks did not pass.[/] docs/verify.md explains each.")
        raise typer.Exit(ExitCode.FAILED)
    _console.print(f"All {len(results)} checks passed or do not apply.")


def _under_load(project: Project, test: Load, topic: str, rate: float, seconds: float) -> Sequence[Check]:
    """Publish events while the deployment is changed; return the checks of what happened.

    Raises:
        typer.Exit: With `ExitCode.FAILED`: the deployment cannot be observed, so nothing was published.
    """
    from sluice.verify.project import Failed, Unknown
    from sluice.verify.under_load import Observer

    try:
        observer = Observer(project)
        commands = observer.commands(project)
    except (Failed, Unknown) as error:
        print_error("Failed:", error)
        raise typer.Exit(ExitCode.FAILED) from error
    _console.print(f"Publishing for {seconds:.0f} s, as {test.run}. Meanwhile, run one of these commands:")
    for command in commands:
        _console.print(f"  {command}", markup=False)
    with _console.status("publishing"):
        test.publish(topic, rate, seconds)
    return observer.checks(test)


def _show(results: list[Finding], *, as_csv: bool) -> None:
    rows = [
        (result.check, Text(result.outcome.value, _STYLES[result.outcome.value]), result.seen) for result in results
    ]
    print_rows(("check", "outcome", "observation"), rows, as_csv=as_csv)
