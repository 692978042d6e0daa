"""The tables and views of both datasets: size, days, freshness, duplicates, columns."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, NamedTuple

import msgspec
from google.api_core.exceptions import NotFound
from google.cloud import bigquery
from msgspec import Meta

from functions.sql import render
from functions.tables import Tables
from sluice.console.answers import SUBJECTS, Answer, Estimate, answer, estimate, is_run
from sluice.console.page import NotThere
from sluice.console.sources import Sources
from sluice.data_model import Relations, columns, relations
from sluice.queries import ChartColumns, ChartKind, RenderedQuery, queries, short_retry

_DAY_MS = 86_400_000

_REQUESTS = 8
"""Maximum number of requests for the metadata of tables at the same time."""

# The views count an event once for each day and id, so a duplicate is a further row with both.
_ROWS = """
{% for table in tables %}
SELECT
  '{{ table.name }}' AS table_name, {{ table.day }} AS day, {{ table.time }} AS made_at,
  CONCAT({{ table.identity }}, CAST({{ table.day }} AS STRING)) AS identity
FROM `{{ table.name }}`
{{ "WHERE " ~ table.day ~ " >= @first_day" if has_first_day }}
{{ "UNION ALL" if not loop.last }}
{% endfor %}
"""
_TABLES = """
SELECT
  table_name, COUNT(DISTINCT day) AS days, MIN(day) AS first_day, MAX(day) AS last_day, COUNT(*) AS row_count,
  COUNT(*) - COUNT(DISTINCT identity) AS duplicates, MAX(made_at) AS newest_row_at
FROM ({{ rows }})
GROUP BY table_name
"""
_TABLE = """
SELECT
  day, COUNT(*) AS row_count, COUNT(*) - COUNT(DISTINCT identity) AS duplicates, MAX(made_at) AS newest_row_at
FROM ({{ rows }})
GROUP BY day
ORDER BY day DESC
"""


class _Counted(NamedTuple):
    """A table whose rows can be counted by day.

    Attributes:
        name: `DATASET.TABLE`.
        day: Day of a row's partition.
        time: Time at which a row was made.
        identity: Value that no two rows of a day should share.
    """

    name: str
    day: str
    time: str
    identity: str


class WarehouseParameters(msgspec.Struct, frozen=True):
    """Parameters of the page of all tables.

    Attributes:
        run: Whether to count rows by a query; by default only on the local stack, where it costs nothing.
        days: Days before today whose partitions are counted; by default all.
    """

    run: bool | None = None
    days: Annotated[int, Meta(ge=0, le=3650)] | None = None


class Counts(msgspec.Struct, frozen=True):
    """Result of the query of a table.

    Attributes:
        days: Number of days that have rows.
        first_day: The first of them.
        last_day: The last of them.
        row_count: Number of rows.
        duplicates: Number of rows whose day and event id another row has.
        newest_row_at: Time of the newest row.
    """

    days: int
    first_day: date
    last_day: date
    row_count: int
    duplicates: int
    newest_row_at: datetime | None


class ListedTable(msgspec.Struct, frozen=True):
    """A table or view.

    Attributes:
        name: Its name: without a dataset in the live one, otherwise `DATASET.TABLE`.
        type: TABLE, VIEW, MATERIALIZED_VIEW or SNAPSHOT.
        description: Its description.
        rows: Number of rows by BigQuery's metadata; None for a view.
        bytes: Their logical bytes; None for a view.
        modified: Time of the last change of its data or definition.
        counts: Result of the query; None if it was not run, or the table has no rows.
    """

    name: str
    type: str
    description: str
    rows: int | None
    bytes: int | None
    modified: datetime
    counts: Counts | None


class Warehouse(msgspec.Struct, frozen=True):
    """All tables and views.

    Attributes:
        days: Days before today whose partitions are counted; None for all.
        tables: Tables and snapshots.
        views: Views.
        estimate: Price of the query that counts.
        is_counted: Whether the query has run.
        now: Time of the answer.
    """

    days: int | None
    tables: Sequence[ListedTable]
    views: Sequence[ListedTable]
    estimate: Estimate
    is_counted: bool
    now: datetime


def warehouse(sources: Sources, parameters: WarehouseParameters) -> Warehouse:
    """Return all tables and views.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected a request or did not answer.
    """
    datasets = (sources.settings.dataset, sources.settings.historical_dataset)
    items = [item for dataset in datasets for item in sources.bigquery.list_tables(dataset, retry=short_retry())]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        tables = list(pool.map(lambda item: sources.bigquery.get_table(item.reference, retry=short_retry()), items))
    # Rows in the streaming buffer are not in `num_rows`.
    filled = {f"{table.dataset_id}.{table.table_id}" for table in tables if table.num_rows or table.streaming_buffer}
    counting = [counted for counted in _counted(Tables(sources.settings)) if counted.name in filled]
    counts: Mapping[str, Counts] = {}
    price = Estimate(0, Decimal(0))
    is_counted = is_run(sources, given=parameters.run)
    if counting:
        rendered = _rendered(_TABLES, counting, parameters.days)
        price = estimate(sources, rendered)
        if is_counted:
            rows = answer(sources, rendered).rows
            counts = {row["table_name"]: msgspec.convert(dict(row), Counts) for row in rows}
    listed = [_listed(sources, table, counts) for table in tables]
    return Warehouse(
        days=parameters.days,
        tables=[table for table in listed if table.rows is not None],
        views=[table for table in listed if table.rows is None],
        estimate=price,
        is_counted=is_counted,
        now=datetime.now(UTC),
    )


class TableParameters(msgspec.Struct, frozen=True):
    """Parameters of the page of a table.

    Attributes:
        name: Its name: without a dataset in the live one, otherwise `DATASET.TABLE`.
        run: Whether to count its rows by a query; by default only on the local stack, where it costs nothing.
        days: Days before today whose partitions are counted; by default all.
    """

    name: str
    run: bool | None = None
    days: Annotated[int, Meta(ge=0, le=3650)] | None = None


class Column(msgspec.Struct, frozen=True):
    """A column, or a field of one.

    Attributes:
        name: Its name with those of the columns that contain it.
        type: Its type.
        description: Its description.
    """

    name: str
    type: str
    description: str


class TableView(msgspec.Struct, frozen=True, kw_only=True):
    """A table or view.

    Attributes:
        table: Its size and description.
        partition_column: Column whose day is the partition; None for no partitions.
        expiration_days: Days that a partition lives; None for ever.
        clustering: Columns by which it is clustered.
        columns: Its columns and their fields.
        reads: Tables and views that it reads.
        read_by: Views that read it.
        asked_by: Queries that read it and change nothing.
        sql: Query of a view; None for a table.
        days: Days before today whose partitions are counted; None for all.
        estimate: Price of the query that counts; None if the rows of the table have no day.
        counted: Rows of each day; None if they were not counted.
        chart: Chart of the rows of each day.
    """

    table: ListedTable
    partition_column: str | None
    expiration_days: int | None
    clustering: Sequence[str]
    columns: Sequence[Column]
    reads: Sequence[str]
    read_by: Sequence[str]
    asked_by: Sequence[str]
    sql: str | None
    days: int | None
    estimate: Estimate | None
    counted: Answer | None
    chart: ChartColumns = ChartColumns(ChartKind.SERIES, "row_count", ["day"])


def table(sources: Sources, parameters: TableParameters) -> TableView:
    """Return a table or view.

    Raises:
        NotThere: It does not exist.
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected a request or did not answer.
    """
    live, historical = sources.settings.dataset, sources.settings.historical_dataset
    dataset, _, name = parameters.name.rpartition(".")
    if (dataset or live) not in {live, historical}:
        raise NotThere(f"no dataset {dataset}; datasets are {live} and {historical}")
    full_name = f"{dataset or live}.{name}"
    try:
        metadata = sources.bigquery.get_table(full_name, retry=short_retry())
    except (NotFound, ValueError) as error:
        raise NotThere(f"no table or view {parameters.name}; /warehouse lists all") from error
    counting = [counted for counted in _counted(Tables(sources.settings)) if counted.name == full_name]
    price, counted = None, None
    if counting:
        rendered = _rendered(_TABLE, counting, parameters.days)
        price = estimate(sources, rendered)
        counted = answer(sources, rendered) if is_run(sources, given=parameters.run) else None
    related = relations(name if full_name.startswith(f"{live}.") else f"historical.{name}") or Relations([], [], [])
    partitioning = metadata.time_partitioning
    return TableView(
        table=_listed(sources, metadata, {}),
        partition_column=partitioning.field if partitioning else None,
        expiration_days=int(partitioning.expiration_ms) // _DAY_MS
        if partitioning and partitioning.expiration_ms
        else None,
        clustering=metadata.clustering_fields or [],
        columns=[Column(*column) for column in columns(metadata.schema)],
        reads=[_own_name(short, historical) for short in related.reads],
        read_by=[_own_name(short, historical) for short in related.read_by],
        asked_by=[name for name in related.asked_by if queries()[name].subject in SUBJECTS],
        sql=metadata.view_query or metadata.mview_query,
        days=parameters.days,
        estimate=price,
        counted=counted,
    )


def _own_name(short: str, historical: str) -> str:
    """Return the name of a table by the one that the data model has."""
    return short.replace("historical.", f"{historical}.", 1) if short.startswith("historical.") else short


def _counted(tables: Tables) -> list[_Counted]:
    """Return the tables that Sluice writes. An event may have a row for each run of a replay."""
    events = [_Counted(name, "event_date", "processed_timestamp", "ingest.event_id") for name in tables.events()]
    return [
        *events,
        _Counted(tables.dead_letters, "DATE(failed_at)", "failed_at", "event_id"),
        _Counted(tables.replays, "DATE(replayed_at)", "replayed_at", "CONCAT(replay_id, event_id)"),
    ]


def _rendered(template: str, tables: Sequence[_Counted], days: int | None) -> RenderedQuery:
    sql = render(template, rows=render(_ROWS, tables=tables, has_first_day=days is not None))
    first_day = datetime.now(UTC).date() - timedelta(days or 0)
    return RenderedQuery(sql, {"first_day": ("DATE", first_day)} if days is not None else {})


def _listed(sources: Sources, table: bigquery.Table, counts: Mapping[str, Counts]) -> ListedTable:
    is_live = table.dataset_id == sources.settings.dataset
    has_rows = table.table_type not in {"VIEW", "MATERIALIZED_VIEW", "EXTERNAL"}
    return ListedTable(
        name=table.table_id if is_live else f"{table.dataset_id}.{table.table_id}",
        type=table.table_type,
        description=table.description or "",
        rows=table.num_rows if has_rows else None,
        bytes=table.num_bytes if has_rows else None,
        modified=table.modified,
        counts=counts.get(f"{table.dataset_id}.{table.table_id}"),
    )
