"""Sluice's own queries are billed for the columns that they name, of the days that their filters select.

BigQuery bills the logical bytes of these columns
(https://cloud.google.com/bigquery/docs/storage_overview#data_size_calculation); no emulator does.
"""

import collections
import pathlib
import re
import types
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pytest
import sqlglot
from google.cloud import bigquery
from sqlglot import exp

from benchmarks.sizes import MERGED, RECONCILED
from functions.archive import layout
from functions.core.message import Message
from functions.core.rows import Row
from functions.events import event_types
from functions.reconcile.reconciler import Reconciler
from functions.reconcile.records import EventsOfDays, Records
from functions.reconcile.scheduled import Checkpoints, ScheduledReconciliation
from functions.schema.ddl import declared_table
from functions.schema.definitions import Kind, definitions
from sluice.cost import deployment
from sluice.cost.deployment import DEFAULT
from sluice.cost.workload import DAYS_OF_MONTH
from sluice.queries import queries
from sluice.shop.generator import Scenario
from sluice.shop.timeline import history_until
from tests.support import monitoring
from tests.support.samples import process
from tests.support.settings import settings

SETTINGS = settings(dataset="live", historical_dataset="history")
SCHEMAS = {
    definition.name: {column.name: column for column in declared_table(definition.ddl).schema}
    for definition in definitions("project", SETTINGS)
    if definition.kind is Kind.TABLE
}
OPERATE = pathlib.Path(__file__).parents[2] / "docs" / "operate.md"
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
URI = f"gs://a-project-sluice-prod-archive/{layout.first_name_at(TODAY)}-0a1b2c3d4e5f-00000001.ndjson.gz"
FIXED = {"INTEGER": 8, "TIMESTAMP": 8, "DATE": 8, "BOOLEAN": 1, "NUMERIC": 16}


def size(value: Any, column: bigquery.SchemaField) -> int:
    """Logical bytes of a value."""
    if value is None:
        return 0
    if column.mode == "REPEATED":
        element = bigquery.SchemaField(column.name, column.field_type, fields=column.fields)
        return sum(size(item, element) for item in value)
    if column.field_type == "RECORD":
        return sum(size(value.get(field.name), field) for field in column.fields)
    return FIXED.get(column.field_type) or 2 + len(str(value).encode())


def sizes() -> dict[str, float]:
    """Mean bytes of each column of an event, over all types: `event_date`, `ingest.event_id`."""
    total: collections.Counter[str] = collections.Counter()
    scenario = list(history_until(Scenario(7), 3_000, TODAY))
    for number, generated in enumerate(scenario):
        attributes = {"event_id": f"{number:08d}-0000-4000-8000-000000000000"}
        outcome = process(Message(generated.data, attributes, f"{number:017d}", TODAY), TODAY)
        assert isinstance(outcome, Row)
        record = outcome.record(URI)
        for name, column in SCHEMAS[f"live.{outcome.table}"].items():
            if name == "ingest":
                for field in column.fields:
                    total[f"ingest.{field.name}"] += size(record["ingest"][field.name], field)
            else:
                total[name] += size(record.get(name), column)
    return {name: count / len(scenario) for name, count in total.items()}


SIZES = sizes()
ROW_BYTES = sum(SIZES.values())


class Query(NamedTuple):
    """A query that was asked.

    Attributes:
        table: Of which table.
        columns: What it reads of it.
        days: The days that it reads; None for all.
    """

    table: str
    columns: frozenset[str]
    days: Sequence[date] | None

    @property
    def bytes_per_event(self) -> float:
        """Bytes of an event of a day that it reads, where all types have their share of the events."""
        return sum(SIZES.get(column, 0) for column in self.columns)


class Recorder:
    """A stand-in for BigQuery's client; its tables are empty."""

    def __init__(self) -> None:
        self.queries: list[Query] = []

    def query(self, text: str, job_config: bigquery.QueryJobConfig) -> "Recorder":
        """Remember a query."""
        tree = sqlglot.parse_one(text, dialect="bigquery")
        [table] = [table for table in tree.find_all(exp.Table) if table.db]
        name = f"{table.db}.{table.name}"
        read = {f"{column.table}.{column.name}".removeprefix(".") for column in tree.find_all(exp.Column)}
        columns = SIZES.keys() | SCHEMAS[name].keys()
        days = next((parameter.values for parameter in job_config.query_parameters if parameter.name == "days"), None)
        partition = "DATE(failed_at)" if name == "live.dead_letters" else "event_date"
        is_pruned = f"WHERE {partition} IN UNNEST(@days)" in text
        self.queries.append(Query(name, frozenset(read & columns), days if is_pruned else None))
        return self

    def result(self, page_size: int) -> list[Any]:
        """Return nothing."""
        del page_size
        return []


class Bucket:
    """A stand-in for the archive's bucket; it has only checkpoints."""

    name = "archive"

    def __init__(self) -> None:
        self.names: list[str] = []

    def bucket(self, _: str) -> "Bucket":
        """Return itself, as a client would."""
        return self

    def list_blobs(self, prefix: str, **_: Any) -> list[Any]:
        """List what was written."""
        return [types.SimpleNamespace(name=name, time_created=TODAY) for name in self.names if name.startswith(prefix)]

    def blob(self, name: str) -> Any:
        """Return an object that can be written."""
        return types.SimpleNamespace(upload_from_string=lambda *_, **__: self.names.append(name))


def runs(start: datetime, end: datetime) -> Iterator[tuple[datetime, list[Query]]]:
    """Run the reconciliation by its schedule, 11 and 41 minutes after each hour; yield what each run asks."""
    bucket: Any = Bucket()
    time = start + timedelta(minutes=11)
    while time < end:
        recorder: Any = Recorder()
        run = Reconciler(recorder, bucket, SETTINGS)
        for _ in ScheduledReconciliation(run, Checkpoints(bucket, "archive"), time):
            pass
        yield time, recorder.queries
        time += timedelta(minutes=30)


@pytest.fixture(scope="module")
def a_day() -> list[tuple[datetime, list[Query]]]:
    """The runs of a day, after those of the day before."""
    start = TODAY - 3 * DAY
    return [(time, asked) for time, asked in runs(start, start + 2 * DAY) if time >= start + DAY]


def test_run_queries_the_compared_day_once(a_day: list[tuple[datetime, list[Query]]]) -> None:
    event_tables = {f"live.{event_type.table}" for event_type in event_types().values()}
    for time, asked in a_day:
        if time.minute == 41:
            assert asked == [], "the first run of the hour has compared all"
            continue
        compared = time - timedelta(hours=2, minutes=11)
        assert sorted(query.table for query in asked) == sorted({*event_tables, "live.dead_letters"})
        assert all(query.days == [compared.date()] for query in asked)
        payload = {"payload", "errors", "attributes", "items", "extras", "user_agent"}
        assert not any(query.columns & payload for query in asked)


def reconciled_bytes(a_day: list[tuple[datetime, list[Query]]]) -> float:
    """Bytes for each event of a day whose events come at one rate."""
    total = 0.0
    for time, asked in a_day:
        for query in asked:
            if query.table == "live.orders":  # Each table is asked the same, and has its share of the events.
                for day in query.days or ():
                    age = time - datetime.combine(day, datetime.min.time(), UTC)
                    total += min(age / DAY, 1) * query.bytes_per_event
    return total


def kept_bytes() -> float:
    """Bytes of `keep_history` for each event of a day: its columns of the days that expire, live and historical."""
    matched = sum(SIZES[column] for column in MERGED)
    return DEFAULT.keep_history_days * ROW_BYTES + DEFAULT.history_days_read * matched


def test_the_alert_on_cost_leaves_out_all_that_sluice_reads_itself(a_day: list[tuple[datetime, list[Query]]]) -> None:
    """The bound includes an hourly look-up of the day before's late events and the same day's redelivered ones."""
    late = 24 * max(query.bytes_per_event for _, asked in a_day for query in asked)
    once = reconciled_bytes(a_day)
    assert 2 * once + late + kept_bytes() < float(monitoring.thresholds()["own_query_bytes"])
    table = re.findall(r"^\| (.+) \| (\d+ \d+) \| (\d+) \|$", OPERATE.read_text(encoding="utf-8"), re.MULTILINE)
    said = [(int(read.replace(" ", "")), int(usd)) for _, read, usd in table]
    assert [read for read, _ in said] == pytest.approx([once, late, once, kept_bytes()], rel=0.03)
    assert [usd for _, usd in said] == [round(read * 1e7 * DAYS_OF_MONTH * 6.25 / 2**40) for read, _ in said]


def test_cost_model_counts_the_queries_of_the_reconciliation(a_day: list[tuple[datetime, list[Query]]]) -> None:
    asked = [query for _, queries_of_run in a_day for query in queries_of_run]
    assert {query.columns for query in asked if query.table == "live.orders"} == {frozenset(RECONCILED)}
    assert len(asked) == 24 * deployment.TABLES_OF_A_RUN
    assert len(a_day) == 24 * deployment.RUNS_OF_AN_HOUR
    an_hour = reconciled_bytes(a_day) / 24 / sum(SIZES[column] for column in RECONCILED)
    assert an_hour == pytest.approx(DEFAULT.reconciled_days, rel=0.01)


def test_events_are_looked_up_in_the_days_that_their_rows_can_have() -> None:
    recorder: Any = Recorder()
    records = Records(recorder, SETTINGS)
    day = TODAY.date() - 5 * DAY
    events = {"order": EventsOfDays({"a"}, {day}), "inventory": EventsOfDays({"b"}, None)}
    assert list(records.of_events(events, {"a", "b"}, day)) == []
    asked = {query.table: query.days for query in recorder.queries}
    assert asked == {
        "live.orders": [day],
        "history.orders": [day],
        "live.inventory": None,
        "history.inventory": None,
        "live.dead_letters": None,
    }


def test_history_is_kept_by_the_days_that_expire_of_both_datasets() -> None:
    """Each run would read all of the history if there were no first day."""
    query = queries()["keep_history"].bind("project", SETTINGS, {})
    first = "event_date BETWEEN DATE_SUB(CURRENT_DATE(), INTERVAL 90 + @overdue DAY)"
    last = "AND DATE_SUB(CURRENT_DATE(), INTERVAL 90 - @days DAY)"
    for statement in query.sql.split("MERGE ")[1:]:
        assert statement.count(f"WHERE {first}") == statement.count(f"AND target.{first}") == 1
        assert statement.count(last) == 2
    days, overdue = (int(queries()["keep_history"].parameters[name].default or "") for name in ("days", "overdue"))
    assert (days, days + overdue + 1) == (DEFAULT.keep_history_days, DEFAULT.history_days_read)
