"""`sluice verify`: what a person sees of it."""

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from functions.settings import Settings
from ops.commands.ending import ExitCode
from ops.verify.check import Finding, Outcome
from ops.verify.checks import CHECKS, findings
from ops.verify.project import Project

_console = Console(stderr=True, soft_wrap=True, highlight=False)

_COLOURS = {Outcome.OK: "green", Outcome.FAIL: "bold red", Outcome.UNKNOWN: "yellow", Outcome.SKIPPED: "dim"}


def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
) -> None:
    """Check a deployment in Google Cloud: what neither the local stack nor a plan of Terraform can show.

    Run `sluice smoke` before, so that there is something to see. It reads Google Cloud's APIs, changes nothing, and
    takes less than ten minutes. Exit code 0: all checks passed or do not apply; 1: one failed, or could not be made.

    Example: sluice smoke && sluice verify
    """
    project = Project.with_default_credentials(Settings.from_environment())
    found: list[Finding] = []
    try:
        with _console.status("checking") as status:
            for finding in findings(project):
                found.append(finding)
                status.update(f"{len(found)} of {len(CHECKS)} checks are done")
    finally:  # Ctrl-C, too, leaves what was found until then.
        if as_json:
            print(msgspec.json.encode(found).decode())  # noqa: T201
        else:
            Console().print(_table(found))
    wrong = sum(one.outcome in {Outcome.FAIL, Outcome.UNKNOWN} for one in found)
    if wrong:
        _console.print(f"[bold red]{wrong} of {len(found)} checks did not pass.[/] docs/verify.md explains each.")
        raise typer.Exit(ExitCode.FAILED)
    _console.print(f"All {len(found)} checks passed or do not apply.")


def _table(found: list[Finding]) -> Table:
    table = Table("check", "", "what was seen")
    for one in found:
        table.add_row(one.check, Text(one.outcome, _COLOURS[one.outcome]), Text(one.seen))
    return table
