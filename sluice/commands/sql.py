"""`sluice sql`: the queries of `sql/`, listed and run, with what they cost."""

import dataclasses
import difflib
import enum
import os
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any

import typer
from google.cloud.bigquery import Client, QueryJob
from google.cloud.bigquery.retry import DEFAULT_RETRY
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from functions.clients import bigquery_client
from functions.settings import Settings
from sluice import formatting as show
from sluice.cost.prices import QUERIED_BYTES
from sluice.queries import SUBJECTS, Query, WrongParameter, queries

_MIB, _TIB = 2**20, 2**40

_RETRY = DEFAULT_RETRY.with_timeout(20)
"""Retries end after 20 seconds, as a person waits. BigQuery's client would retry for ten minutes, and restart jobs."""

_console = Console(stderr=True)


class _Form(enum.Enum):
    TABLE = enum.auto()
    JSON = enum.auto()
    CSV = enum.auto()


def price(size: int) -> Decimal:
    """Return the USD that a query of so many bytes costs."""
    return Decimal(str(QUERIED_BYTES.usd)) * size / _TIB


def sql(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A query; without: list them all.")] = None,
    *,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the query; once for each.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the query and estimate its price only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line on standard output.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header on standard output.")] = False,
) -> None:
    """List the queries, or run one and say what it cost.

    The dataset is that of the settings (GOOGLE_CLOUD_PROJECT, DATASET, LOCATION, ...).

    Exit code 0: answered; 1: BigQuery's error; 2: no such query, or a wrong parameter or setting.
    """
    if as_json and as_csv:
        raise typer.BadParameter("choose one of the two", param_hint="--json, --csv")
    form = _Form.JSON if as_json else _Form.CSV if as_csv else _Form.TABLE
    if name is None:
        if param or dry_run:
            raise typer.BadParameter("--param and --dry-run are for one query", param_hint="NAME")
        _list(form)
        return
    query = _query(name)
    settings = _settings(query)
    given = _parameters(param or [])
    client = bigquery_client(settings)
    bound = query.bind(client.project, settings, given)
    config = bound.config()
    config.dry_run = dry_run
    job = client.query(bound.sql, config, retry=_RETRY, job_retry=None)
    if dry_run:
        _console.print(_estimate(job), highlight=False)
    else:
        _show(client, job, form)


def _query(name: str) -> Query:
    by_name = queries()
    if query := by_name.get(name):
        if query.part_of:
            raise typer.BadParameter(f"{name} checks nothing alone: run `{query.part_of}`", param_hint="NAME")
        return query
    near = difflib.get_close_matches(name, by_name, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`sluice sql` lists all."
    raise typer.BadParameter(f"there is no query {name}; {hint}", param_hint="NAME")


def _settings(query: Query) -> Settings:
    """Read the settings from the environment; the bucket only where the query reads it, as an analyst has none."""
    environment = dict(os.environ)
    if "archive_bucket" not in query.template:
        environment["ARCHIVE_BUCKET"] = "unused"
    return Settings.from_environment(environment)


def _parameters(given: Sequence[str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongParameter(f"{text!r} is not NAME=VALUE")
        if name in parameters:
            raise WrongParameter(f"{name} is given twice")
        parameters[name] = value
    return parameters


def _list(form: _Form) -> None:
    if form is not _Form.TABLE:
        listed = [_described(query) for query in queries().values()]
        _write(form, list(listed[0]), listed)
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


def _show(client: Client, job: QueryJob, form: _Form) -> None:
    rows = job.result(retry=_RETRY)
    if rows.schema and job.statement_type in {"SELECT", "SCRIPT"}:
        _write(form, [field.name for field in rows.schema], map(dict, rows))
    else:
        for line in _done(client, job):
            _console.print(line, highlight=False)
    scanned, billed = job.total_bytes_processed or 0, job.total_bytes_billed or 0
    _console.print(
        f"scanned {scanned / _MIB:,.1f} MiB, billed {billed / _MIB:,.1f} MiB, {price(billed):.6f} USD", highlight=False
    )


def _write(form: _Form, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    match form:
        case _Form.TABLE:
            Console().print(show.table(names, rows))
        case _Form.JSON:
            for line in show.json_lines(rows):
                typer.echo(line)
        case _Form.CSV:
            for line in show.csv_lines(names, rows):
                typer.echo(line)


def _done(client: Client, job: QueryJob) -> list[str]:
    """Return what a statement without an answer did; for a script, what each of its statements did."""
    jobs = [job]
    if job.statement_type == "SCRIPT":
        jobs = sorted(client.list_jobs(parent_job=job), key=lambda child: (child.started, child.ended))
    return [_did(statement) for statement in jobs] or ["done"]


def _did(job: QueryJob) -> str:
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
    return (
        f"valid; would scan {scanned / _MIB:,.1f} MiB, {price(scanned):.6f} USD (10 MB are billed for a table at least)"
    )
