"""The command `sluice sql`, which lists and runs the queries of `sql/`."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from sluice import formatting
from sluice.commands.command_settings import command_settings
from sluice.commands.options import nearest
from sluice.cost.prices import QUERIED_BYTES

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.bigquery import Client, QueryJob

    from sluice.queries import Query

_MIB, _TIB = 2**20, 2**40

_console = Console(stderr=True)


class _Format(enum.Enum):
    TABLE = enum.auto()
    JSON = enum.auto()
    CSV = enum.auto()


def price(size: int) -> Decimal:
    """Return the price in USD of a query that scans `size` bytes."""
    return Decimal(str(QUERIED_BYTES.usd)) * size / _TIB


def sql(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of the query; without it, all queries are listed.")
    ] = None,
    *,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the query; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the query and estimate its price.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write a JSON object for each row to standard output.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV with a header to standard output.")] = False,
) -> None:
    """List the prepared queries, or run one and print its cost.

    The settings GOOGLE_CLOUD_PROJECT, DATASET and LOCATION select the dataset.

    Examples:
        sluice sql
        sluice sql customer_lifetime_value --csv
        sluice sql low_stock --param threshold=10 --dry-run

    Exit code 0: the query has run; 1: BigQuery rejected the query or did not answer; 2: the query does not exist, or a
    parameter or a setting is wrong.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other", param_hint="--json, --csv")
    output_format = _Format.JSON if as_json else _Format.CSV if as_csv else _Format.TABLE
    if name is None:
        if param or dry_run:
            raise typer.BadParameter("--param and --dry-run need the NAME of a query", param_hint="NAME")
        _list(output_format)
        return
    query = _query(name)
    given = _parameters(param or [])
    settings = command_settings(archive="archive_bucket" in query.template)
    from functions.clients import bigquery_client

    client = bigquery_client(settings)
    bound = query.bind(client.project, settings, given)
    config = bound.config()
    config.dry_run = dry_run
    job = client.query(bound.sql, config, retry=_retry(), job_retry=None)
    if dry_run:
        _console.print(_estimate(job), highlight=False)
    else:
        _show(client, job, output_format)


def _retry() -> Retry:
    """Return a retry that ends after 20 seconds. The default would retry for ten minutes, and restart jobs."""
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(20)


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


def _list(output_format: _Format) -> None:
    from sluice.queries import SUBJECTS, queries

    if output_format is not _Format.TABLE:
        listed = [_described(query) for query in queries().values()]
        _write(output_format, list(listed[0]), listed)
        return
    for subject in SUBJECTS:
        table = Table(Column("name", no_wrap=True), "question", "cost", title=subject, title_justify="left")
        for query in queries().values():
            if query.subject == subject:
                table.add_row(query.name, Text("\n  ".join([query.question, *_details(query)])), query.cost)
        if table.row_count:
            Console().print(table)


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


def _show(client: Client, job: QueryJob, output_format: _Format) -> None:
    rows = job.result(retry=_retry())
    if rows.schema and job.statement_type in {"SELECT", "SCRIPT"}:
        _write(output_format, [field.name for field in rows.schema], map(dict, rows))
    else:
        for line in _effects(client, job):
            _console.print(line, highlight=False)
    scanned, billed = job.total_bytes_processed or 0, job.total_bytes_billed or 0
    _console.print(
        f"scanned {scanned / _MIB:,.1f} MiB, billed {billed / _MIB:,.1f} MiB, {price(billed):.6f} USD", highlight=False
    )


def _write(output_format: _Format, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    match output_format:
        case _Format.TABLE:
            Console().print(formatting.table(names, rows))
        case _Format.JSON:
            for line in formatting.json_lines(rows):
                typer.echo(line)
        case _Format.CSV:
            for line in formatting.csv_lines(names, rows):
                typer.echo(line)


def _effects(client: Client, job: QueryJob) -> list[str]:
    """Describe the effect of a statement without result rows; for a script, of each of its statements."""
    jobs = [job]
    if job.statement_type == "SCRIPT":
        jobs = sorted(client.list_jobs(parent_job=job), key=lambda child: (child.started, child.ended))
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
    scanned = job.total_bytes_processed or 0
    return f"valid; would scan {scanned / _MIB:,.1f} MiB, {price(scanned):.6f} USD (minimum: 10 MB for each table)"
