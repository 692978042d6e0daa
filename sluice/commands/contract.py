"""The commands `sluice contract check` and `sluice contract new`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from functions.source_files import InvalidFile
from sluice.checkout import command
from sluice.commands.options import Csv, Json
from sluice.formatting import print_rows

if TYPE_CHECKING:
    from sluice.contract.finding import ContractFinding

app = typer.Typer(help="Check the contracts of events, and create new event types.", no_args_is_help=True)
console = Console(stderr=True, soft_wrap=True)

_DEFAULT_BASE = "HEAD"


@app.command()
def check(
    base: Annotated[
        str | None,
        typer.Option(
            help="Git commit to compare with.",
            envvar="SLUICE_CONTRACT_BASE",
            show_default=_DEFAULT_BASE,
        ),
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Check that each contract fits its table, and that changes since a commit are compatible.

    Examples:
        sluice contract check
        sluice contract check --base origin/main --json

    Exit code 0: no finding, or notices only; 1: a finding breaks producers or consumers; 2: the check failed to run.
    """
    from functions.events import event_types
    from sluice.contract.check import check as find
    from sluice.contract.project import ContractFiles, NoBase

    try:
        before = ContractFiles.at(base or _DEFAULT_BASE)
    except NoBase as error:
        if base is not None:
            console.print(Text(f"Base {base} does not exist: {error}", "bold red"), soft_wrap=True)
            raise typer.Exit(2) from error
        before = None
        console.print(Text(f"Not compared with a commit: {error}", "yellow"), soft_wrap=True)
    project = ContractFiles.on_disk()
    try:
        handlers = event_types()
    except InvalidFile as error:
        console.print(Text(f"The check did not run: {error}", "bold red"), soft_wrap=True)
        raise typer.Exit(2) from error
    findings = find(project, before, handlers)
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))  # noqa: T201 - for jq
    else:
        _show(findings, as_csv=as_csv)
    broken = sum(not finding.is_notice for finding in findings)
    compared = f"compared with {base or _DEFAULT_BASE}" if before else "not compared with a commit"
    summary = f"{_count(len(project.contracts), 'contract')}, {compared}: {_count(broken, 'finding')}"
    notices = len(findings) - broken
    text = f"{summary}, {_count(notices, 'notice')}" if notices else summary
    console.print(Text(text, "red" if broken else "green"), soft_wrap=True)
    if broken:
        raise typer.Exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _show(findings: list[ContractFinding], *, as_csv: bool) -> None:
    if findings or as_csv:
        rows = [
            (
                finding.file,
                finding.path,
                finding.problem,
                f"notice for {finding.breaks}" if finding.is_notice else Text(finding.breaks, "red"),
            )
            for finding in findings
        ]
        print_rows(("file", "field", "finding", "breaks"), rows, as_csv=as_csv)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the new event type, in snake_case.")],
    table: Annotated[str | None, typer.Option(help="Table of its rows; default: NAMEs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files; write nothing.")] = False,
) -> None:
    """Create an event type: contract, table, handler, sample events and passing tests.

    Examples:
        sluice contract new shipment --dry-run
        sluice contract new delivery --table deliveries

    Exit code 0: the files are written; 1: a file, or a table or view with that name, already exists; 2: a name is not
    allowed.
    """
    from sluice.contract.new import Taken, Unfit, files, free, write
    from sluice.contract.project import ROOT
    from sluice.data_model import FILE, introduce

    chosen = table or f"{name}s"
    try:
        made = files(name, chosen)
        free(made, name, chosen)
    except Unfit as error:
        raise typer.BadParameter(str(error)) from error
    except Taken as error:
        console.print(Text(f"Nothing was written: {error}", "bold red"), soft_wrap=True)
        raise typer.Exit(1) from error
    if not dry_run:
        write(made)
        introduce(chosen)
    out = Console(highlight=False, soft_wrap=True)
    for path in made:
        out.print(f"{'would write' if dry_run else 'wrote'} {path}")
    out.print(f"{'would change' if dry_run else 'changed'} {FILE.relative_to(ROOT)}")
    out.print(
        "\nNext:\n"
        "  edit these files: the fields, their descriptions, and the enrichment\n"
        f"  {command()} contract check\n"
        f"  {command()} up        try it on this machine, with the table {chosen}\n"
        "  UPDATE_DOCS=1 make test    its tests and the others, and the generated pages\n"
        "  name the readers of the table in docs/data-model.md, and deploy\n"
        "docs/add-an-event-type.md explains each step."
    )
