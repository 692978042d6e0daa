"""Views push a filter on the day down to their tables, so that a query for one day reads one day.

BigQuery prunes partitions where a filter reaches the scan. Whether it may is the same in every optimizer: through
a window only on its PARTITION BY columns, through a GROUP BY only on its keys. DuckDB shows where it arrives.
"""

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from functions.events import event_types
from functions.schema.definitions import Definition, Kind, definitions
from tests.support.settings import settings

DEFINITIONS = definitions("project", settings())
EVENT_TABLES = sorted({event_type.table for event_type in event_types().values()})

DAYS = {f"{table}_{view}": "event_date" for table in EVENT_TABLES for view in ("deduplicated", "all")} | {
    "user_sessions": "event_date",
    "dead_letter_status": "failed_on",
    "dead_letter_summary": "failed_on",
}
WHOLE = {
    "orders_current": "the latest state of an order may be of any day",
    "stock_levels": "stock is the sum over all days, and has no column of a day",
}


@pytest.fixture(scope="module")
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET disabled_optimizers = 'statistics_propagation'")  # It sees that the tables are empty.
        connection.execute("ATTACH ':memory:' AS project")
        for definition in DEFINITIONS:
            if definition.kind is Kind.DATASET:
                connection.execute(f"CREATE SCHEMA project.{definition.name}")
            elif definition.kind is not Kind.EXTERNAL:
                connection.execute(in_duckdb(definition))
        yield connection


def in_duckdb(definition: Definition) -> str:
    """The statement without what DuckDB does not know and the plan does not need."""
    tree = sqlglot.parse_one(definition.ddl, dialect="bigquery")
    tree.set("properties", None)
    for column in tree.find_all(exp.ColumnDef):
        column.set("constraints", [])
    for aggregate in tree.find_all(exp.ArrayAgg):
        if isinstance(aggregate.this, exp.Limit):
            aggregate.set("this", aggregate.this.this)
    if definition.kind is Kind.VIEW:
        tree.set("this", tree.find(exp.Table))
    return tree.sql("duckdb")


def filtered_scans(plan: dict[str, Any], column: str, filtered: bool = False) -> Iterator[bool]:
    """Yield for each scan of the plan whether the filter is there before any window or aggregate."""
    info = plan["extra_info"]
    if plan["name"] in {"WINDOW", "STREAMING_WINDOW", "HASH_GROUP_BY", "PERFECT_HASH_GROUP_BY"}:
        filtered = False
    filtered = filtered or column in str(info.get("Filters", "")) or column in str(info.get("Expression", ""))
    if plan["name"].strip() in {"SEQ_SCAN", "TABLE_SCAN"}:
        yield filtered
    for child in plan["children"]:
        yield from filtered_scans(child, column, filtered)


def scans_of_one_day(warehouse: duckdb.DuckDBPyConnection, view: str, day: str) -> list[bool]:
    partition = "failed_at" if view.startswith("dead_letter_") else "event_date"
    query = f"SELECT * FROM project.dev_events_dataset.{view} WHERE {day} = DATE '2026-11-01'"
    row = warehouse.execute(f"EXPLAIN (FORMAT json) {query}").fetchone()
    assert row is not None
    [plan] = json.loads(row[1])
    return list(filtered_scans(plan, partition))


@pytest.mark.parametrize(("view", "day"), DAYS.items(), ids=list(DAYS))
def test_a_query_for_one_day_scans_one_day(warehouse: duckdb.DuckDBPyConnection, view: str, day: str) -> None:
    scans = scans_of_one_day(warehouse, view, day)
    if view.startswith("dead_letter_"):
        # A dead letter may have been replayed on any day since: the ledger's other four columns are read whole.
        scans.remove(False)
    assert scans == [True] * (2 if view.endswith("_all") else 1)


def test_the_latest_state_of_an_order_is_looked_for_in_all_days(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert scans_of_one_day(warehouse, "orders_current", "event_date") == [False]


def test_every_view_either_prunes_or_says_why_it_cannot() -> None:
    views = {definition.name.partition(".")[2] for definition in DEFINITIONS if definition.kind is Kind.VIEW}
    assert views == DAYS.keys() | WHOLE.keys()
