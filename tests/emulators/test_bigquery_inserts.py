"""`insertAll` in one transaction has the results of the emulator's own implementation."""

import asyncio
import base64
import collections
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import httpx
import msgspec
import pytest
from local_bigquery.catalog import row_access, tabledata
from local_bigquery.engine import database
from local_bigquery.jobs import query
from local_bigquery.models import TableDataInsertAllRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sluice.local import bigquery_inserts
from sluice.local.bigquery_server import IdentifyCaller
from tests.support.engine import engine

PROJECT = "a-project"
COLUMNS = (
    "id INT64 NOT NULL, name STRING, amount NUMERIC, ratio FLOAT64, yes BOOL, day DATE, at TIMESTAMP, clock TIME,"
    " data BYTES, more JSON, part STRUCT<id INT64, at TIMESTAMP>, parts ARRAY<STRUCT<id INT64, name STRING>>"
)
FULL = {
    "id": 7,
    "name": 'caf\u00e9 \\ " \u0000',
    "amount": "12345678901234567890.123456789",
    "ratio": 0.1,
    "yes": True,
    "day": "2025-02-28",
    "at": "2025-02-28T23:59:59.999999Z",
    "clock": "12:34:56.789",
    "data": "AAH/",
    "more": '{"a": [1, null]}',
    "part": {"id": 1, "at": "2025-02-28T23:59:59+01:00"},
    "parts": [{"id": 1, "name": "one"}, {"id": 2}],
}
GOOD = [
    FULL,
    {"id": 1},
    {"id": "8", "ratio": "NaN", "yes": "true", "amount": 1.5},
    {"id": 9.0, "ratio": 3, "name": 5, "more": {"a": 1}},
    {"id": 2**63 - 1, "part": {"unknown": 1}, "parts": []},
    {"id": 1, "name": None, "part": None, "at": None},
    {"id": 1, "part": "no struct"},
]
BAD = [
    {},
    {"id": None},
    {"id": "x"},
    {"id": 2**63},
    {"id": 2**70},
    {"id": 1, "day": "2025-02-30"},
    {"id": 1, "amount": "1e40"},
    {"id": 1, "data": "no base64!"},
    {"id": 1, "parts": None},
    {"id": 1, "unknown": 1},
    {"id": 1, "at": "yesterday"},
    {"id": 1, "at": 1700000000},
]

_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The emulator's engine in this process."""
    with engine(tmp_path_factory.mktemp("inserts"), PROJECT) as patch:
        patch.setattr(tabledata, "_recent", collections.OrderedDict())
        patch.setattr(tabledata, "_deduplicate", bigquery_inserts.deduplicate)
        query.run_ddl(PROJECT, "CREATE SCHEMA d")
        yield


def new_table() -> str:
    name = f"t{next(_numbers)}"
    query.run_ddl(PROJECT, f"CREATE TABLE d.{name} ({COLUMNS})")
    return name


def body(*rows: Any, ids: bool = False) -> bytes:
    """A request; with insertIds that are the rows' positions."""
    given = [{"json": row} | ({"insertId": f"{index}"} if ids else {}) for index, row in enumerate(rows)]
    return msgspec.json.encode({"rows": given, "skipInvalidRows": True})


def insert(table: str, request: bytes) -> bool:
    return bigquery_inserts.insert(PROJECT, "d", table, request)


def emulator_insert(table: str, request: bytes) -> Any:
    model = TableDataInsertAllRequest.model_validate(msgspec.json.decode(request))
    return tabledata.insert_all(PROJECT, "d", table, model)


def rows_of(table: str) -> list[Any]:
    """Rows as text: the engine needs no further module for it."""
    return list(database.fetch(f"SELECT CAST(t AS VARCHAR) FROM {database.quote(PROJECT, 'd', table)} AS t ORDER BY 1"))


@pytest.mark.parametrize("row", GOOD)
def test_inserted_row_equals_that_of_the_emulator(row: dict[str, Any]) -> None:
    ours, theirs = new_table(), new_table()
    assert insert(ours, body(row))
    assert emulator_insert(theirs, body(row)) == {}
    assert rows_of(ours) == rows_of(theirs)


@pytest.mark.parametrize("row", BAD)
def test_request_with_an_invalid_row_is_passed_to_the_emulator(row: dict[str, Any]) -> None:
    """So are all other rows of its request; their insertIds stay new."""
    table = new_table()
    request = body(FULL, row, ids=True)
    assert not insert(table, request)
    assert rows_of(table) == []
    try:
        errors = emulator_insert(table, request)["insertErrors"]
    except duckdb.Error:  # the emulator knows no base64 that is not valid
        return
    assert [error["index"] for error in errors] == [1]
    assert len(rows_of(table)) == 1


def test_an_insert_id_is_inserted_once() -> None:
    """The rule holds for both implementations, and until a minute has passed."""
    table = new_table()
    request = body(FULL, {**FULL, "id": 8}, ids=True)
    assert insert(table, request)
    assert insert(table, request)
    assert emulator_insert(table, request) == {}
    assert len(rows_of(table)) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabledata, "DEDUP_SECONDS", 0)
        assert insert(table, request)
    assert len(rows_of(table)) == 4


def test_concurrent_requests_fail_independently() -> None:
    """Those that wait are inserted together; a bad one among them is found, and the others are not lost."""
    names = [new_table(), new_table()]
    with ThreadPoolExecutor(20) as pool:
        with bigquery_inserts.lock:
            futures = [
                pool.submit(insert, names[number % 2], body({"id": number if number != 11 else "x"}))
                for number in range(20)
            ]
        assert [future.result() for future in futures] == [number != 11 for number in range(20)]
    assert [len(rows_of(name)) for name in names] == [10, 9]


def test_files_of_many_commits_are_merged() -> None:
    """A row that was deleted stays so, and the table still has its history."""
    table = new_table()
    name = database.quote(PROJECT, "d", table)
    half = bigquery_inserts.COMMITS_OF_MERGE // 2
    assert all(
        insert(table, body({"id": number, "name": "n" * 300}, {"id": -number, "name": None})) for number in range(half)
    )
    before = time.time()
    database.execute(f"DELETE FROM {name} WHERE id = -3")
    assert len(_files(table)) == half
    assert all(insert(table, body({"id": number})) for number in range(half, 2 * half))
    assert len(_files(table)) <= 3  # The file of the deleted row is kept apart.
    ids = sorted([*range(2 * half), *(-number for number in range(half) if number != 3)])
    assert database.fetch(f"SELECT id FROM {name} ORDER BY id") == [(number,) for number in ids]
    of_before = f"SELECT COUNT(*), COUNT(name) FROM {name} AT (TIMESTAMP => to_timestamp($1))"
    assert database.fetch(of_before, [before]) == [(2 * half, half)]


def test_a_table_that_is_dropped_is_not_merged() -> None:
    bigquery_inserts.merge_files(PROJECT, "d", "none")


def _files(table: str) -> list[Any]:
    return list(database.fetch("FROM ducklake_list_files($1, $2, schema => 'd')", [PROJECT, table]))


def test_columns_are_those_of_the_moment() -> None:
    table = new_table()
    row = {"id": 1, "added": "x"}
    assert not insert(table, body(row))
    query.run_ddl(PROJECT, f"ALTER TABLE d.{table} ADD COLUMN added STRING")
    assert insert(table, body(row))
    query.run_ddl(PROJECT, f"ALTER TABLE d.{table} ALTER COLUMN id DROP NOT NULL")
    assert insert(table, body({"added": "y"}))
    query.run_ddl(PROJECT, f"ALTER TABLE d.{table} SET OPTIONS (expiration_timestamp = TIMESTAMP '2020-01-01')")
    assert not insert(table, body(row))
    assert not insert("none", body(row))
    assert not insert("none", b"no JSON")


def test_requests_not_inserted_are_passed_to_the_emulator() -> None:
    """The request keeps all of its bytes, however many parts they come in, and stays compressed."""
    table = new_table()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await Response(b"inner " + await request.body())(scope, receive, send)

    async def parts(content: bytes) -> AsyncIterator[bytes]:
        yield content[:7]
        yield content[7:]

    async def answers() -> list[bytes]:
        transport = httpx.ASGITransport(bigquery_inserts.InsertAll(inner))
        path = f"/bigquery/v2/projects/{PROJECT}/datasets/d/tables/{table}"
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
            return [
                (await client.post(f"{path}/insertAll", content=parts(body({"id": 1})))).content,
                (await client.post(f"{path}/insertAll", content=parts(body({"id": "x"})))).content,
                (await client.post(f"{path}/insertAll", content=b"zip", headers={"content-encoding": "gzip"})).content,
                (await client.post(path, content=body({"id": 1}))).content,
            ]

    inserted, *others = asyncio.run(answers())
    assert msgspec.json.decode(inserted) == {"kind": "bigquery#tableDataInsertAllResponse"}
    assert others == [b"inner " + body({"id": "x"}), b"inner zip", b"inner " + body({"id": 1})]
    assert len(rows_of(table)) == 1


def test_a_request_names_its_caller() -> None:
    """The caller is the one that the emulator itself determines."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(row_access.caller.get())(scope, receive, send)

    async def callers() -> list[Any]:
        transport = httpx.ASGITransport(IdentifyCaller(inner))
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
            return [(await client.get("/", headers=headers)).json() for headers in ({}, {"authorization": token})]

    claims = base64.urlsafe_b64encode(b'{"email": "a@b.iam.gserviceaccount.com"}').decode()
    token = f"Bearer x.{claims}.y"
    assert asyncio.run(callers()) == [list(row_access.identify(None)), list(row_access.identify(token))]
