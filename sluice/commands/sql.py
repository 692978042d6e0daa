"""The command `sluice sql`, which lists and runs the queries of `sql/`, and runs statements of one's own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sluice.commands.command_settings import check_services, check_stack, read_settings
from sluice.commands.exit_codes import errors_as_exit_codes
from sluice.commands.options import Csv, Json, nearest
from sluice.formatting import json_lines, print_rows

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, QueryJob, QueryJobConfig

    from functions.settings import Settings
    from sluice.formatting import Rows
    from sluice.queries import Query

_MIB = 2**20

_console = Console(stderr=True, soft_wrap=True)


def sql(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of the query; without it, all queries are listed.")
    ] = None,
    *,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Run these statements instead; - reads them from standard input. Tables without a dataset are those"
            " of DATASET.",
            show_default=False,
        ),
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option("--interactive", "-i", help="Read statements from a prompt, with history and completion (Tab)."),
    ] = False,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the query; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the query and estimate its price.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the prepared queries, or run one, or statements of your own, and print the cost.

    The settings GOOGLE_CLOUD_PROJECT, DATASET and LOCATION select the dataset.

    Examples:
        sluice sql
        sluice sql customer_lifetime_value --csv
        sluice sql low_stock --param threshold=10 --dry-run
        sluice sql --query "SELECT order_id, status FROM orders LIMIT 10"
        sluice sql --interactive

    Exit code 0: the query has run, or the prompt has ended; 1: BigQuery rejected the query or did not answer; 2: the
    query does not exist, or a parameter or a setting is wrong.
    """
    if (name is not None) + (query is not None) + interactive > 1:
        raise typer.BadParameter("give only one of NAME, --query and --interactive")
    if param and name is None:
        raise typer.BadParameter("--param needs the NAME of a query", param_hint="NAME")
    if interactive and not sys.stdin.isatty():
        raise typer.BadParameter(
            "--interactive needs a terminal; --query - reads standard input", param_hint="--interactive"
        )
    if name is None and query is None and not interactive:
        if dry_run:
            raise typer.BadParameter("--dry-run needs a NAME or --query", param_hint="NAME")
        _list(as_json=as_json, as_csv=as_csv)
        return
    check_stack()  # Before the imports of what follows, which take a second.
    given = _parameters(param or [])
    prepared = None if name is None else _query(name)
    settings = read_settings(archive=prepared is not None and "archive_bucket" in prepared.template)
    check_services(settings, archive=False)
    from functions.clients import bigquery_client

    client = bigquery_client(settings)
    show = functools.partial(_run, client, settings, dry_run=dry_run, as_json=as_json, as_csv=as_csv)
    if interactive:
        _prompt(client, settings, show)
    elif prepared:
        bound = prepared.bind(client.project, settings, given)
        show(bound.sql, bound.config())
    else:
        show(sys.stdin.read() if query == "-" else str(query))


def _run(
    client: Client,
    settings: Settings,
    statements: str,
    config: QueryJobConfig | None = None,
    *,
    dry_run: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    from google.cloud.bigquery import QueryJobConfig

    from sluice.queries import short_retry

    config = config or QueryJobConfig(default_dataset=f"{client.project}.{settings.dataset}")
    config.dry_run = dry_run
    job = client.query(statements, config, retry=short_retry(), job_retry=None)
    if dry_run:
        _console.print(_estimate(job), highlight=False)
    else:
        _show(client, job, as_json=as_json, as_csv=as_csv)


def _prompt(client: Client, settings: Settings, show: Callable[[str], None]) -> None:
    """Run statements from a prompt. An error ends its statement, and Ctrl-C too."""
    from sluice.queries import short_retry
    from sluice.sql_prompt import statements

    tables = [table.table_id for table in client.list_tables(settings.dataset, retry=short_retry())]
    _console.print("A statement ends with a semicolon; Ctrl-D or exit ends the prompt.", highlight=False)
    for statement in statements(tables):
        with contextlib.suppress(typer.Exit, KeyboardInterrupt), errors_as_exit_codes():
            show(statement)


def _query(name: str) -> Query:
    from sluice.queries import queries

    by_name = queries()
    if query := by_name.get(name):
        if query.part_of:
            raise typer.BadParameter(f"query {name} must not run alone: run `{query.part_of}`", param_hint="NAME")
        return query
    hint = nearest(name, by_name, "`sluice sql` lists all queries")
    raise typer.BadParameter(f"query {name} does not exist; {hint}", param_hint="NAME")


def _parameters(given: Sequence[str]) -> dict[str, str]:
    from sluice.queries import WrongParameter

    parameters: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongParameter(f"parameter {text!r} does not have the form NAME=VALUE")
        if name in parameters:
            raise WrongParameter(f"parameter {name} is given twice")
        parameters[name] = value
    return parameters


def _list(*, as_json: bool, as_csv: bool) -> None:
    from sluice.queries import SUBJECTS, queries

    if as_json or as_csv:
        listed = [_described(query) for query in queries().values()]
        _write(list(listed[0]), [list(query.values()) for query in listed], as_json=as_json, as_csv=as_csv)
        return
    for subject in SUBJECTS:
        rows = [
            (query.name, "\n".join([query.question, *_details(query)]), query.cost)
            for query in queries().values()
            if query.subject == subject
        ]
        if rows:
            print_rows(("name", "question", "cost"), rows, title=subject)
            print()  # noqa: T201


def _details(query: Query) -> list[str]:
    if query.part_of:
        return [f"part of `{query.part_of}`"]
    return [str(parameter) for parameter in query.parameters.values()]


def _described(query: Query) -> dict[str, Any]:
    return {
        "subject": query.subject,
        "name": query.name,
        "question": query.question,
        "notes": query.notes,
        "parameters": [dataclasses.asdict(parameter) for parameter in query.parameters.values()],
        "cost": str(query.cost),
        "part_of": query.part_of,
    }


def _show(client: Client, job: QueryJob, *, as_json: bool, as_csv: bool) -> None:
    from sluice.queries import price, short_retry

    rows = job.result(retry=short_retry())
    if rows.schema and job.statement_type in {"SELECT", "SCRIPT"}:
        names = [field.name for field in rows.schema]
        _write(names, (row.values() for row in rows), as_json=as_json, as_csv=as_csv)
    else:
        for line in _effects(client, job):
            _console.print(line, highlight=False)
    scanned, billed = job.total_bytes_processed or 0, job.total_bytes_billed or 0
    _console.print(
        f"scanned {scanned / _MIB:,.1f} MiB, billed {billed / _MIB:,.1f} MiB, {price(billed):.6f} USD", highlight=False
    )


def _write(names: Sequence[str], rows: Rows, *, as_json: bool, as_csv: bool) -> None:
    if not as_json:
        print_rows(names, rows, as_csv=as_csv)
        return
    for line in json_lines(names, rows):
        typer.echo(line)


def _effects(client: Client, job: QueryJob) -> list[str]:
    """Describe the effect of a statement without result rows; for a script, of each of its statements."""
    jobs = [job]
    if job.statement_type == "SCRIPT":
        jobs = sorted(client.list_jobs(parent_job=job), key=lambda child: (child.created, child.started))
    return [_effect(statement) for statement in jobs] or ["done"]


def _effect(job: QueryJob) -> str:
    text = (job.statement_type or "statement").replace("_", " ").lower()
    if job.ddl_target_table:
        text += f" {job.ddl_target_table.dataset_id}.{job.ddl_target_table.table_id}"
    if job.ddl_operation_performed:
        text += f": {job.ddl_operation_performed.lower()}"
    if job.num_dml_affected_rows is not None:
        text += f": {job.num_dml_affected_rows} rows"
    return text


def _estimate(job: QueryJob) -> str:
    from sluice.queries import price

    scanned = job.total_bytes_processed or 0
    return f"valid; would scan {scanned / _MIB:,.1f} MiB, {price(scanned):.6f} USD (minimum: 10 MB for each table)"
