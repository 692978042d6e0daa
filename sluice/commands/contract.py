"""`sluice contract`: check the contracts, and begin a new event type."""

import dataclasses
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from functions.events import event_types
from sluice.contract.check import check as find
from sluice.contract.finding import Finding
from sluice.contract.new import Taken, Unfit, files, free, write
from sluice.contract.project import NoBase, Project
from sluice.data_model import introduce

app = typer.Typer(help="Contracts: what events must be.", no_args_is_help=True)
console = Console(stderr=True)

_DEFAULT_BASE = "HEAD"


@app.command()
def check(
    base: Annotated[
        str | None,
        typer.Option(
            help="Commit to compare with.", envvar="SLUICE_CONTRACT_BASE", show_default=f"{_DEFAULT_BASE}, if any"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the findings as JSON to standard output.")] = False,
) -> None:
    """Prove that each contract agrees with its table, and that changes since a commit are compatible.

    Exit code 0: they are, whatever the notices; 1: a finding breaks somebody; 2: the check could not be made.
    """
    try:
        before = Project.at(base or _DEFAULT_BASE)
    except NoBase as error:
        if base is not None:
            console.print(Text(f"There is no base {base}: {error}", "bold red"), soft_wrap=True)
            raise typer.Exit(2) from error
        before = None
        console.print(Text(f"Not compared with any commit: {error}", "yellow"), soft_wrap=True)
    project = Project.on_disk()
    try:
        handlers = event_types()
    except (ImportError, AttributeError, SyntaxError) as error:
        console.print(Text(f"A handler in functions/events/ cannot be loaded: {error}", "bold red"), soft_wrap=True)
        raise typer.Exit(2) from error
    findings = find(project, before, handlers)
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))  # noqa: T201 - for jq
    else:
        _show(findings)
    broken = sum(not finding.is_notice for finding in findings)
    compared = f"compared with {base or _DEFAULT_BASE}" if before else "compared with nothing"
    summary = f"{_count(len(project.contracts), 'contract')}, {compared}: {_count(broken, 'finding')}"
    notices = len(findings) - broken
    text = f"{summary}, {_count(notices, 'notice')}" if notices else summary
    console.print(Text(text, "red" if broken else "green"), soft_wrap=True)
    if broken:
        raise typer.Exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _show(findings: list[Finding]) -> None:
    if not findings:
        return
    table = Table("file", "field", "finding", "breaks")
    for finding in findings:
        breaks = Text(f"notice for {finding.breaks}") if finding.is_notice else Text(finding.breaks, "red")
        table.add_row(Text(finding.file), Text(finding.path), Text(finding.problem), breaks)
    Console().print(table)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The new event_type, in snake_case.")],
    table: Annotated[str | None, typer.Option(help="Table of its rows; default: NAME with an s.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be written.")] = False,
) -> None:
    """Begin an event type: contract, table, handler, sample events, and tests that pass at once.

    Exit code 0: it is written; 1: a file is there already, or a table or a view of that name; 2: a name is not allowed.
    """
    chosen = table or f"{name}s"
    try:
        made = files(name, chosen)
        free(made, name, chosen)
    except Unfit as error:
        raise typer.BadParameter(str(error)) from error
    except Taken as error:
        console.print(Text(f"Nothing is written: {error}", "bold red"), soft_wrap=True)
        raise typer.Exit(1) from error
    if not dry_run:
        write(made)
        introduce(chosen)
    out = Console(highlight=False, soft_wrap=True)
    for path in made:
        out.print(f"{'would write' if dry_run else 'wrote'} {path}")
    out.print(
        "\nNext:\n"
        "  edit these files: the fields, what they mean, and what to add\n"
        f"  .venv/bin/pytest tests/unit/events/test_{name}.py\n"
        "  .venv/bin/sluice contract check\n"
        "  UPDATE_DOCS=1 make test, after each change, and say in docs/data-model.md who reads the table\n"
        f"  deploy, and call the bootstrap: it makes the table {chosen}"
    )
