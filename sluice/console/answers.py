"""The queries of `sql/`, their prices and their answers."""

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from time import monotonic
from typing import Any

import msgspec
from google.cloud import bigquery

from sluice.commands.error_messages import message
from sluice.console.page import FAILURES, NotThere, ServiceFailed, WrongInput
from sluice.console.sources import Sources
from sluice.queries import ChartColumns, Cost, Query, RenderedQuery, WrongParameter, price, queries, short_retry

SUBJECTS = ("analytics", "monitoring")
"""Subjects of the queries that only read."""

MAX_ROWS = 1_000
"""Maximum number of rows of an answer."""


class ListedQuery(msgspec.Struct, frozen=True):
    """A query in the list.

    Attributes:
        name: Its name.
        question: Question that it answers.
        cost: Its cost class.
        chart: Kind of the chart of its answer; None for none.
        part_of: Command that runs it, if it must not run alone; None otherwise.
    """

    name: str
    question: str
    cost: Cost
    chart: str | None
    part_of: str | None


class QueryList(msgspec.Struct, frozen=True):
    """All queries that only read.

    Attributes:
        subjects: The queries of each subject.
    """

    subjects: Mapping[str, Sequence[ListedQuery]]


def query_list(_: Sources, __: msgspec.Struct) -> QueryList:
    """Return all queries that only read."""
    listed: dict[str, list[ListedQuery]] = {subject: [] for subject in SUBJECTS}
    for query in queries().values():
        if query.subject in listed:
            kind = query.chart.kind.value if query.chart else None
            listed[query.subject].append(ListedQuery(query.name, query.question, query.cost, kind, query.part_of))
    return QueryList(listed)


class QueryParameters(msgspec.Struct, frozen=True):
    """Parameters of the page of a query.

    Attributes:
        name: Name of the query.
        run: Whether to run it; by default only on the local stack, where it costs nothing.
        param: Values of its own parameters; the others have their defaults.
    """

    name: str
    run: bool | None = None
    param: Mapping[str, str] = {}


class Input(msgspec.Struct, frozen=True):
    """A parameter in the form.

    Attributes:
        name: Its name.
        type: INT64, FLOAT64, STRING, DATE, TIMESTAMP or NAME.
        description: Meaning of the value.
        value: The value as text; empty for none.
        least: Minimum as text; None for none.
        most: Maximum as text; None for none.
        is_required: Whether it has no default.
    """

    name: str
    type: str
    description: str
    value: str
    least: str | None
    most: str | None
    is_required: bool


class Estimate(msgspec.Struct, frozen=True):
    """Price of a query before it runs. BigQuery bills at least 10 MB for each table.

    Attributes:
        scanned: Bytes that it would scan.
        usd: Their price in USD.
    """

    scanned: int
    usd: Decimal


class Answer(msgspec.Struct, frozen=True):
    """Answer of a query.

    Attributes:
        columns: Names of its columns.
        rows: Its rows, at most `MAX_ROWS`.
        total: Number of all rows.
        seconds: Seconds that it took.
        billed: Bytes that were billed.
        usd: Their price in USD.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    total: int
    seconds: float
    billed: int
    usd: Decimal


class QueryView(msgspec.Struct, frozen=True, kw_only=True):
    """A query, its price and its answer.

    Attributes:
        name: Its name.
        subject: Folder of the query.
        question: Question that it answers.
        notes: How it does so; may be empty.
        cost: Its cost class.
        inputs: Its parameters.
        command: Command that gives the same answer.
        sql: The statement without its header, with the values of the parameters; None if one is wrong.
        chart: Columns of the chart of the answer; None for none.
        estimate: Price before it runs; None if it is unknown.
        answer: The answer; None if it was not run.
    """

    name: str
    subject: str
    question: str
    notes: str
    cost: Cost
    inputs: Sequence[Input]
    command: str
    sql: str | None = None
    chart: ChartColumns | None
    estimate: Estimate | None = None
    answer: Answer | None = None


def query(sources: Sources, parameters: QueryParameters) -> QueryView:
    """Return a query with its price, and its answer if it is to be run.

    Raises:
        NotThere: There is no such query.
        WrongInput: A parameter is wrong.
        ServiceFailed: BigQuery rejected the query or did not answer.
    """
    chosen = _chosen(parameters.name)
    view = _view(chosen, parameters.param)
    try:
        rendered = chosen.bind(sources.bigquery.project, sources.settings, parameters.param)
    except WrongParameter as error:
        raise WrongInput(str(error), view) from error
    view = msgspec.structs.replace(view, sql=rendered.with_values().removeprefix(chosen.header))
    with _failures_on(view):
        view = msgspec.structs.replace(view, estimate=estimate(sources, rendered))
    if is_run(sources, given=parameters.run):
        with _failures_on(view):
            view = msgspec.structs.replace(view, answer=answer(sources, rendered))
    return view


def is_run(sources: Sources, *, given: bool | None) -> bool:
    """Return whether to run a query: as the address says, by default only where it costs nothing."""
    return sources.local is not None if given is None else given


def estimate(sources: Sources, rendered: RenderedQuery) -> Estimate:
    """Return the price of a query, which on the local stack is nothing.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
    """
    if sources.local:
        return Estimate(0, Decimal(0))
    config = rendered.config()
    config.dry_run = True
    scanned = _job(sources, rendered, config).total_bytes_processed or 0
    return Estimate(scanned, price(scanned))


def answer(sources: Sources, rendered: RenderedQuery) -> Answer:
    """Run a query.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
    """
    started = monotonic()
    job = _job(sources, rendered, rendered.config())
    result = job.result(max_results=MAX_ROWS, retry=short_retry())
    names = [field.name for field in result.schema]
    rows = [dict(zip(names, row.values(), strict=True)) for row in result]
    billed = job.total_bytes_billed or 0
    return Answer(names, rows, result.total_rows or len(rows), monotonic() - started, billed, price(billed))


def _chosen(name: str) -> Query:
    chosen = queries().get(name)
    if chosen is None:
        raise NotThere(f"no query {name}; /queries lists all")
    if chosen.part_of:
        raise NotThere(f"query {name} must not run alone: run `{chosen.part_of}`")
    if chosen.subject not in SUBJECTS:
        raise NotThere(f"query {name} is for maintenance: run `sluice sql {name}`")
    return chosen


def _view(chosen: Query, given: Mapping[str, str]) -> QueryView:
    inputs = []
    for parameter in chosen.parameters.values():
        least, most = parameter.bounds or (None, None)
        value = given.get(parameter.name, parameter.default or "")
        required = parameter.default is None
        inputs.append(Input(parameter.name, parameter.type, parameter.description, value, least, most, required))
    options = "".join(f" --param {name}={shlex.quote(value)}" for name, value in given.items())
    return QueryView(
        name=chosen.name,
        subject=chosen.subject,
        question=chosen.question,
        notes=chosen.notes,
        cost=chosen.cost,
        inputs=inputs,
        command=f"sluice sql {chosen.name}{options}",
        chart=chosen.chart,
    )


@contextlib.contextmanager
def _failures_on(view: QueryView) -> Iterator[None]:
    """Turn the errors of services into those of a page that shows a view."""
    try:
        yield
    except FAILURES as error:
        raise ServiceFailed(message(error), view) from error


def _job(sources: Sources, rendered: RenderedQuery, config: bigquery.QueryJobConfig) -> bigquery.QueryJob:
    return sources.bigquery.query(rendered.sql, config, retry=short_retry(), job_retry=None)
