"""Each fix of `local-bigquery` is needed, and is enough.

A check fails without its fix. Where it passes, the library has fixed the fault itself: remove the fix from
`sluice/local/bigquery_fixes.py`, and its check from here.
"""

import contextlib
import gzip
import importlib.metadata
import itertools
import json
import pathlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import grpc
import pytest
from google.cloud.bigquery_storage_v1 import types as storage_types
from local_bigquery.catalog import datasets, tabledata, tables
from local_bigquery.engine import database
from local_bigquery.errors import BigQueryError
from local_bigquery.grpc import server
from local_bigquery.jobs import query, runner
from local_bigquery.models import (
    JobConfiguration,
    JobConfigurationLoad,
    JobConfigurationQuery,
    Table,
    TableDataInsertAllRequest,
)

from sluice.local import bigquery_fixes
from sluice.local.bigquery_fixes import FIXES
from tests.support.engine import engine

PROJECT = "a-project"
DATASET = "d"
SQL_NAME = f"`{PROJECT}`.{DATASET}"
WRITE_API = "google.cloud.bigquery.storage.v1.BigQueryWrite"
BY_RACE = {"insert_one_at_a_time", "load_one_at_a_time", "run_ddl_one_at_a_time"}
"""Their faults strike now and then, in parallel; the emulator tests fail without them sooner or later."""

type Check = Callable[[], None]

CHECKS: dict[str, Check] = {}
_numbers = itertools.count()


def check(function: Check) -> Check:
    """Register the check of the fix of the same name; it begins with an empty dataset."""
    CHECKS[function.__name__] = function
    return function


def run(sql: str, **parameters: str) -> list[Any]:
    """Run a query with parameters that are strings, and return its rows."""
    given = [
        {"name": name, "parameterType": {"type": "STRING"}, "parameterValue": {"value": value}}
        for name, value in parameters.items()
    ]
    job = f"job-{next(_numbers)}"
    config = JobConfigurationQuery(query=sql, queryParameters=given, parameterMode="NAMED")
    with database.cursor() as cursor:
        _, _, result = query.execute(cursor, PROJECT, job, config)
        if result is None:
            return []
        return list(cursor.execute(f"FROM emulator._results.{database.quote(f'{PROJECT}:{job}')}").fetchall())


def insert(table: str, row: dict[str, Any], insert_id: str | None = None) -> Any:
    request = TableDataInsertAllRequest.model_validate({"rows": [{"insertId": insert_id, "json": row}]})
    return tabledata.insert_all(PROJECT, DATASET, table, request)


def resource(table: str) -> dict[str, Any]:
    dumped: dict[str, Any] = tables.load(PROJECT, DATASET, table).dump()
    return dumped


@check
def forget_failed_insert_ids() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (data BYTES)")
    insert_id = f"{next(_numbers)}"
    with pytest.raises(duckdb.Error):
        insert("t", {"data": "no base64!"}, insert_id)
    insert("t", {"data": "AAH/"}, insert_id)
    assert run(f"SELECT COUNT(*) FROM {SQL_NAME}.t") == [(1,)]


@check
def reject_concurrent_job_of_same_id() -> None:
    job, configuration = "job-of-two", JobConfiguration(query={"query": "SELECT 1"})
    both, load = threading.Barrier(2, timeout=1.0), runner.store.load

    def slow(*arguments: Any) -> Any:
        answer = load(*arguments)
        if threading.current_thread().name.startswith("submit"):
            with contextlib.suppress(threading.BrokenBarrierError):  # only one of them got here
                both.wait()
        return answer

    def submit(_: int) -> bool:
        try:
            runner.submit(PROJECT, job, configuration)
        except BigQueryError:
            return False
        return True

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2, "submit") as pool:
        patch.setattr(runner.store, "load", slow)
        assert sorted(pool.map(submit, range(2))) == [False, True]


@check
def load_by_schema_of_table() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (data BYTES)")
    table = {"projectId": PROJECT, "datasetId": DATASET, "tableId": "t"}
    config = JobConfigurationLoad(destinationTable=table, sourceFormat="NEWLINE_DELIMITED_JSON")
    file = pathlib.Path(str(database.settings.data_dir)) / "rows.json"
    file.write_text(json.dumps({"data": "AAH/"}))
    with database.cursor() as cursor:
        runner.HANDLERS["load"](cursor, config, str(file))
    assert run(f"SELECT data FROM {SQL_NAME}.t") == [(b"\0\1\xff",)]


@check
def disable_optimizers_that_lose_rows() -> None:
    values = ["aaa", "\N{GRINNING FACE}" * 128, "plain"]
    run(f"CREATE TABLE {SQL_NAME}.t (id STRING)")
    for value in values:
        run(f"INSERT INTO {SQL_NAME}.t VALUES (@value)", value=value)
    assert [run(f"SELECT id FROM {SQL_NAME}.t WHERE id = @value", value=value) for value in values] == [
        [(value,)] for value in values
    ]


@check
def create_clone_with_rows_or_not_at_all() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id INT64)")
    with pytest.raises((BigQueryError, duckdb.Error)):
        run(f"CREATE TABLE {SQL_NAME}.c CLONE {SQL_NAME}.t FOR SYSTEM_TIME AS OF TIMESTAMP '2020-01-01'")
    assert not tables.exists(PROJECT, DATASET, "c")


@check
def run_without_optimizer_for_nul() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id STRING)")
    run(f"INSERT INTO {SQL_NAME}.t VALUES ('other')")
    insert("t", {"id": "nul\0 and more"})
    assert run(f"SELECT COUNT(*) FROM {SQL_NAME}.t WHERE id = @value", value="nul\0 and more") == [(1,)]


@check
def evaluate_parameters_of_expiration() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id INT64)")
    options = "OPTIONS (expiration_timestamp = TIMESTAMP(@time))"
    run(f"CREATE SNAPSHOT TABLE {SQL_NAME}.s CLONE {SQL_NAME}.t {options}", time="2100-01-01 00:00:00+00")
    assert int(resource("s")["expirationTime"]) == 4_102_444_800_000


@check
def reject_time_before_table() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id INT64)")
    with pytest.raises(BigQueryError, match=r"Invalid snapshot time 1577836800000 for table .* Cannot read before"):
        run(f"SELECT * FROM {SQL_NAME}.t FOR SYSTEM_TIME AS OF TIMESTAMP '2020-01-01'")


@check
def keep_location_of_dataset() -> None:
    run(f"CREATE SCHEMA {SQL_NAME}_eu OPTIONS (location = 'europe-west1')")
    assert datasets.get(PROJECT, f"{DATASET}_eu").location == "europe-west1"


@check
def parse_options_of_clone() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id INT64)")
    run(f"CREATE TABLE {SQL_NAME}.c CLONE {SQL_NAME}.t OPTIONS (description = 'a clone')")
    assert resource("c")["description"] == "a clone"


@check
def keep_not_null_of_clone() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id INT64 NOT NULL)")
    run(f"CREATE TABLE {SQL_NAME}.c CLONE {SQL_NAME}.t")
    with pytest.raises((BigQueryError, duckdb.Error), match=r"NULL|null"):
        run(f"INSERT INTO {SQL_NAME}.c VALUES (NULL)")


@check
def keep_metadata_of_clone() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id INT64) CLUSTER BY id OPTIONS (description = 'rows')")
    run(f"CREATE TABLE {SQL_NAME}.c CLONE {SQL_NAME}.t")
    clone = resource("c")
    assert (clone["clustering"], clone["description"]) == ({"fields": ["id"]}, "rows")


@check
def keep_nested_metadata() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (part STRUCT<id INT64 OPTIONS (description = 'a number')>)")
    [field] = resource("t")["schema"]["fields"]
    assert field["fields"][0]["description"] == "a number"


@check
def drop_nested_not_null() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (part STRUCT<id INT64 NOT NULL>)")
    assert tables.exists(PROJECT, DATASET, "t")


@check
def add_nested_fields() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (part STRUCT<id INT64>)")
    fields = [{"name": name, "type": "INTEGER"} for name in ("id", "added")]
    schema = {"fields": [{"name": "part", "type": "RECORD", "fields": fields}]}
    tables.update(PROJECT, DATASET, "t", Table.model_validate({"schema": schema}), None, False)
    insert("t", {"part": {"id": 1, "added": 2}})
    assert run(f"SELECT part.added FROM {SQL_NAME}.t") == [(2,)]


class Context:
    """The context of a call of gRPC."""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return []


@check
def show_schema_of_stream() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id INT64)")
    name = f"projects/{PROJECT}/datasets/{DATASET}/tables/t/streams/_default"
    request = storage_types.GetWriteStreamRequest(name=name, view=storage_types.WriteStreamView.FULL)
    stream = server.SERVICES[WRITE_API]["GetWriteStream"].unary_unary(request, Context())
    assert [field.name for field in stream.table_schema.fields] == ["id"]


@check
def serve_more_connections_and_larger_requests() -> None:
    run(f"CREATE TABLE {SQL_NAME}.t (id INT64)")
    stream = f"projects/{PROJECT}/datasets/{DATASET}/tables/t/streams/_default"
    request = storage_types.GetWriteStreamRequest(name=stream)
    padded = (
        storage_types.GetWriteStreamRequest.serialize(request) + b"\xaa\x06" + _varint(5_000_000) + b"x" * 5_000_000
    )
    serving, port = server.start("127.0.0.1", 0)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(f"/{WRITE_API}/GetWriteStream", bytes, storage_types.WriteStream.deserialize)
            assert call(padded).name == stream
    finally:
        serving.stop(None)


def _varint(number: int) -> bytes:
    """Return a length as protocol buffers have it."""
    head = b""
    while number > 0x7F:
        head += bytes([number & 0x7F | 0x80])
        number >>= 7
    return head + bytes([number])


LEFT_OUT = {"create_clone_with_rows_or_not_at_all": {"reject_time_before_table"}}
"""Fixes which hide the fault that another one is for."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("fixes")


EXTERNAL = f"""
CREATE OR REPLACE EXTERNAL TABLE {SQL_NAME}.files (n INT64, text STRING, data BYTES)
WITH PARTITION COLUMNS (dt DATE, hr STRING)
OPTIONS (description = "of, files", uris = ["gs://bucket/raw/*"], labels = [("a", "b"), ("c", "d")])
"""


@check
def parse_external_table() -> None:
    run(EXTERNAL)
    created = resource("files")
    assert [field["name"] for field in created["schema"]["fields"]] == ["n", "text", "data", "dt", "hr"]
    assert (created["description"], created["labels"]) == ("of, files", {"a": "b", "c": "d"})


@check
def keep_definition_of_external_table() -> None:
    run(EXTERNAL)
    assert resource("files")["externalDataConfiguration"]


@check
def keep_type_of_external_table() -> None:
    run(EXTERNAL)
    assert resource("files")["type"] == "EXTERNAL"


@check
def read_external_tables() -> None:
    run(EXTERNAL)
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCS_LOCAL_ROOT", root)
        select = f"SELECT files.text, data FROM {SQL_NAME}.files WHERE dt = '2026-11-23' AND hr > '08'"
        assert run(select) == []
        folder = pathlib.Path(root, "bucket/raw/dt=2026-11-23/hr=09")
        folder.mkdir(parents=True)
        (folder / "a.gz").write_bytes(gzip.compress(b'{"text": "a"}\n{"data": "/3s=", "other": 1}\n'))
        assert sorted(run(select), key=str) == [("a", None), (None, b"\xff{")]
        name = "gs://bucket/raw/dt=2026-11-23/hr=09/a.gz"
        assert run(f"SELECT DISTINCT _FILE_NAME FROM {SQL_NAME}.files WHERE dt = '2026-11-23'") == [(name,)]


@contextlib.contextmanager
def fixed_engine(folder: pathlib.Path, but: set[str]) -> Iterator[None]:
    """Run the engine with all fixes but some, while the context lasts."""
    library = [(fix, fix.function) for fix in FIXES]
    try:
        with engine(folder, PROJECT):
            for fix in FIXES:
                if fix.name not in but:
                    fix.install()
            database.execute(f"CREATE SCHEMA {database.quote(PROJECT, DATASET)}")
            yield
    finally:
        for fix, function in library:
            fix.replace(function)


@pytest.mark.check
@pytest.mark.parametrize("name", CHECKS)
def test_a_fix_is_enough_and_needed(name: str, folder: pathlib.Path) -> None:
    others = LEFT_OUT.get(name, set())
    with fixed_engine(folder / f"{name}-fixed", others):
        CHECKS[name]()
    with fixed_engine(folder / name, others | {name}), pytest.raises((Exception, pytest.fail.Exception)):
        CHECKS[name]()


def test_each_fix_has_a_check() -> None:
    assert CHECKS.keys() | BY_RACE == {fix.name for fix in FIXES}


def test_the_fixes_are_for_the_version_that_is_installed() -> None:
    version = importlib.metadata.version("local-bigquery")
    assert version in (bigquery_fixes.__doc__ or "")
