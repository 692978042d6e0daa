"""Rows by the Storage Write API on the emulator: what arrives, and what becomes of rows, are as by insertAll."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from google.cloud import bigquery

from dataflow.storage_write import StorageWriter, write_client
from functions.clients import bigquery_client
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.ingest.batch_writer import Inserts, by_table
from functions.ingest.http_client import ApiError, bigquery_api
from functions.ingest.warehouse import InsertRow, Warehouse
from functions.settings import Settings
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators
from sluice.shop.generator import generate
from tests.support.datasets import fresh_datasets

TIMEOUT = 30.0

COLUMNS = (
    "id INT64 NOT NULL, name STRING, amount NUMERIC, ratio FLOAT64, yes BOOL, day DATE, at TIMESTAMP, clock TIME,"
    " data BYTES, more JSON, part STRUCT<id INT64, at TIMESTAMP, inner STRUCT<day DATE>>,"
    " parts ARRAY<STRUCT<id INT64 NOT NULL, price NUMERIC, data BYTES>>, days ARRAY<DATE>, texts ARRAY<STRING>"
)
EDGES: Sequence[dict[str, Any]] = [
    {"name": 'café \\ " \u0000 \U0001f375', "texts": ["", "ß"]},
    {"name": None, "amount": None, "at": None, "part": None, "more": None, "data": None},
    {"amount": "12345678901234567890.123456789"},
    {"amount": "-99999999999999999999999999999.999999999"},
    {"amount": "0.000000001", "ratio": 0.1},
    {"amount": 12, "ratio": 3},
    {"amount": 1.5, "ratio": 1e308},
    {"amount": "29.900000000"},
    {"id": 2**63 - 1},
    {"id": -(2**63)},
    {"day": "0001-01-01", "at": "0001-01-01T00:00:00Z"},
    {"day": "9999-12-31", "at": "9999-12-31T23:59:59.999999Z"},
    {"at": "1969-12-31T23:59:59.999999Z"},
    {"at": "2025-02-28T23:59:59.123456+05:30", "clock": "12:34:56.789"},
    {"data": "AAH/", "yes": False},
    {"data": "", "yes": True},
    {"more": "null"},
    {"more": '{"a": [1, null, 1.5, 9007199254740993], "b": {}}'},
    {"more": '"text"'},
    {"part": {}},
    {"part": {"id": 1, "at": "2025-02-28T23:59:59+01:00", "inner": {"day": "2025-02-28"}}},
    {"parts": [], "days": [], "texts": []},
    {"parts": [{"id": 1, "price": "0.100000000", "data": "AAH/"}, {"id": 2, "price": None}]},
    {"days": ["2025-02-28", "1970-01-01"]},
]


class Tables:
    """A dataset with a table of its own for each test, and both writers."""

    def __init__(self, client: bigquery.Client, settings: Settings, writer: StorageWriter) -> None:
        self.client = client
        self.dataset = settings.dataset
        self.writer = writer
        self.insert_all = Warehouse(bigquery_api(), PROJECT, settings.dataset)
        self._numbers = itertools.count()

    def new(self, columns: str = COLUMNS) -> str:
        name = f"t{next(self._numbers)}"
        self.client.query_and_wait(f"CREATE TABLE `{PROJECT}.{self.dataset}.{name}` ({columns})")
        return name

    def rows(self, table: str, order: str = "id") -> list[dict[str, Any]]:
        sql = f"SELECT * FROM `{self.dataset}.{table}` ORDER BY {order}"
        return [dict(row) for row in self.client.query_and_wait(sql)]


@pytest.fixture(scope="module")
def tables(running_emulators: Emulators) -> Iterator[Tables]:
    with fresh_datasets(running_emulators) as fresh:
        writer = StorageWriter(write_client(), PROJECT, fresh.settings.dataset)
        yield Tables(bigquery_client(fresh.settings), fresh.settings, writer)
        writer.close()


def records(*rows: dict[str, Any]) -> list[InsertRow]:
    return [InsertRow(str(position), msgspec.Raw(msgspec.json.encode(row))) for position, row in enumerate(rows)]


def test_edges_arrive_as_by_insert_all(tables: Tables) -> None:
    """Null, missing and empty values, numbers and times at their limits, JSON's null, and what is nested."""
    given = records(*({"id": position, **row} for position, row in enumerate(EDGES)))
    names = [tables.new(), tables.new()]
    writers: list[Inserts] = [tables.insert_all, tables.writer]
    for name, writer in zip(names, writers, strict=True):
        assert writer.insert(name, given, TIMEOUT) == ({}, {}, False)
    expected, arrived = map(tables.rows, names)
    assert len(expected) == len(EDGES)
    assert arrived == expected


def test_events_arrive_as_by_insert_all(tables: Tables, running_emulators: Emulators) -> None:
    now = datetime.now(UTC)
    settings = Settings(archive_bucket="archive", google_cloud_project=PROJECT, code_version="tests")
    process = EventPipeline.from_settings(settings)
    generated = itertools.islice(generate(seed=18, start=now, bad_share=0.1), 200)
    outcomes = [
        process(Message(message.data, message.attributes, str(n), now), now) for n, message in enumerate(generated)
    ]
    with fresh_datasets(running_emulators) as other:
        insert_all = Warehouse(bigquery_api(), PROJECT, other.settings.dataset)
        for table, events in by_table(outcomes, lambda outcome: outcome).items():
            given = [InsertRow(event.insert_id, event.encoded("gs://archive/one")) for event in events]
            assert insert_all.insert(table, given, TIMEOUT) == ({}, {}, False)
            assert tables.writer.insert(table, given, TIMEOUT) == ({}, {}, False)
            order = "message_id" if table == "dead_letters" else "ingest.message_id"
            sql = f"SELECT * FROM `{other.settings.dataset}.{table}` ORDER BY {order}"
            expected = [dict(row) for row in other.client.query_and_wait(sql)]
            assert len(expected) == len(events)
            assert tables.rows(table, order) == expected


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        ({"id": None}, "$.id"),
        ({}, "$.id"),
        ({"id": 1, "day": "2025-02-30"}, "$.day"),
        ({"id": 1, "ratio": "secret"}, "$.ratio"),
        ({"id": 1, "data": "no base64!"}, "$.data"),
        ({"id": 2**63}, "$.id"),
        ({"id": 1, "parts": [{"id": 1}, {"id": "secret"}]}, "$.parts[1].id"),
        ({"id": 1, "amount": "1e40"}, "$"),  # BigQuery itself says so
    ],
)
def test_a_bad_row_is_rejected_and_its_neighbours_arrive(tables: Tables, bad: dict[str, Any], path: str) -> None:
    table = tables.new()
    rejected, unfinished, _ = tables.writer.insert(table, records({"id": 1}, bad, {"id": 3}), TIMEOUT)
    assert not unfinished
    assert [(position, errors[0].path, errors[0].rule) for position, errors in rejected.items()] == [
        (1, path, "invalid")
    ]
    assert "secret" not in rejected[1][0].message
    assert [row["id"] for row in tables.rows(table)] == [1, 3]


def test_a_column_that_the_table_lacks_is_awaited(tables: Tables) -> None:
    """No dead letter: the table is behind the code. Its neighbours arrive, and when the table has it, the row does."""
    table = tables.new()
    given = records({"id": 0}, {"id": 1, "added": "x"})
    assert tables.writer.insert(table, given[:1], TIMEOUT) == ({}, {}, False)
    lacking = {1: f"{table} lacks a column: added"}
    assert tables.writer.insert(table, given, TIMEOUT) == ({}, lacking, False)
    assert [row["id"] for row in tables.rows(table)] == [0]
    tables.client.query_and_wait(f"ALTER TABLE `{PROJECT}.{tables.dataset}.{table}` ADD COLUMN added STRING")
    assert tables.writer.insert(table, given, TIMEOUT) == ({}, {}, False)
    assert [row["added"] for row in tables.rows(table)] == [None, "x"]


def test_insert_succeeds_once_a_missing_table_is_created(tables: Tables) -> None:
    """It is the infrastructure's fault, and is found when it is there."""
    with pytest.raises(ApiError, match=r"^NotFound: 404 notFound$"):
        tables.writer.insert("later", records({"id": 1}), TIMEOUT)
    tables.client.query_and_wait(f"CREATE TABLE `{PROJECT}.{tables.dataset}.later` (id INT64)")
    assert tables.writer.insert("later", records({"id": 1}), TIMEOUT) == ({}, {}, False)


def test_rows_that_exceed_a_request_are_divided(tables: Tables) -> None:
    """A row that exceeds one by itself is rejected."""
    table = tables.new("id INT64, name STRING")
    given = records(*({"id": n, "name": "x" * 4_000_000} for n in range(3)), {"id": 3, "name": "x" * 10_000_000})
    rejected, unfinished, _ = tables.writer.insert(table, given, TIMEOUT)
    assert {position: errors[0].message for position, errors in rejected.items()} == {
        3: "the row is too large for BigQuery"
    }
    assert not unfinished
    assert [row["id"] for row in tables.rows(table)] == [0, 1, 2]
