"""The command `sluice bootstrap`."""

from __future__ import annotations

from typing import Annotated

import typer

from sluice.commands.command_settings import command_settings
from sluice.commands.exit_codes import ExitCode, print_error
from sluice.commands.options import Csv, Json
from sluice.formatting import print_rows


def bootstrap(
    plan: Annotated[bool, typer.Option("--plan", help="Show what would change, and change nothing.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Create and update datasets, tables and views as `sql/` defines them.

    It is what the function `bootstrap` does, here with your own credentials: it is idempotent, and if one change is
    rejected, nothing is changed. `pending` is what waits for the first object of the archive.

    Examples:
        sluice bootstrap --plan
        sluice bootstrap

    Exit code 0: the warehouse is as defined, but for what is pending, or the plan has no rejected change; 1: a change
    is rejected or failed.
    """
    settings = command_settings()
    import contextlib
    import dataclasses

    import msgspec
    from google.api_core.exceptions import NotFound

    from functions.clients import bigquery_client
    from functions.schema.bootstrap import Bootstrap

    client = bigquery_client(settings)
    with contextlib.suppress(NotFound):  # What concerns all objects is one error.
        client.get_dataset(settings.dataset)
    made = Bootstrap(client, settings)
    steps = made.plan() if plan else made.run()
    if as_json:
        typer.echo(msgspec.json.encode([dataclasses.asdict(step) for step in steps]).decode())
    else:
        rows = [(step.change, step.name, step.pending or ", ".join(step.diff)) for step in steps if not step.error]
        print_rows(("change", "object", "differences"), rows, as_csv=as_csv)
    failed = [step for step in steps if step.error]
    for step in failed:
        print_error("Failed:", f"{step.name}: {step.error}")
    if failed:
        raise typer.Exit(ExitCode.FAILED)
