"""DDL as tables of the BigQuery API."""

import pathlib
import subprocess
import sys
from typing import Any

import pytest

from functions.schema.ddl import UnknownDdl, declared_table

ROOT = pathlib.Path(__file__).parents[2]

DDL = """
CREATE TABLE IF NOT EXISTS `my-project.d.t` (
  id STRING NOT NULL OPTIONS (description = "It's the \\"id\\""),
  code STRING(8),
  price NUMERIC(10, 2),
  raw BYTES,
  ok BOOL,
  share FLOAT64,
  tags ARRAY<STRING>,
  lines ARRAY<STRUCT<n INT64 NOT NULL OPTIONS (description = "Units"), inner_one STRUCT<j JSON>>>,
  at TIMESTAMP
)
PARTITION BY DATE(at)
CLUSTER BY id, code
OPTIONS (
  description = "A table",
  partition_expiration_days = 1.5,
  require_partition_filter = TRUE,
  labels = [("a", "b"), ("c", "")]
);
"""


def test_everything_that_the_statement_says_is_in_the_table() -> None:
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": "STRING", "mode": "REQUIRED", "description": 'It\'s the "id"'},
        {"name": "code", "type": "STRING", "mode": "NULLABLE", "maxLength": "8"},
        {"name": "price", "type": "NUMERIC", "mode": "NULLABLE", "precision": "10", "scale": "2"},
        {"name": "raw", "type": "BYTES", "mode": "NULLABLE"},
        {"name": "ok", "type": "BOOLEAN", "mode": "NULLABLE"},
        {"name": "share", "type": "FLOAT", "mode": "NULLABLE"},
        {"name": "tags", "type": "STRING", "mode": "REPEATED"},
        {
            "name": "lines",
            "type": "RECORD",
            "mode": "REPEATED",
            "fields": [
                {"name": "n", "type": "INTEGER", "mode": "REQUIRED", "description": "Units"},
                {
                    "name": "inner_one",
                    "type": "RECORD",
                    "mode": "NULLABLE",
                    "fields": [{"name": "j", "type": "JSON", "mode": "NULLABLE"}],
                },
            ],
        },
        {"name": "at", "type": "TIMESTAMP", "mode": "NULLABLE"},
    ]
    assert declared_table(DDL).to_api_repr() == {
        "tableReference": {"projectId": "my-project", "datasetId": "d", "tableId": "t"},
        "description": "A table",
        "labels": {"a": "b", "c": ""},
        "schema": {"fields": fields},
        "timePartitioning": {"type": "DAY", "field": "at", "expirationMs": "129600000"},
        "clustering": {"fields": ["id", "code"]},
        "requirePartitionFilter": True,
    }


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("SELECT 1", "a CREATE TABLE with columns is expected"),
        ("CREATE VIEW p.d.t AS SELECT 1 AS x", "a CREATE TABLE with columns is expected"),
        ("CREATE TABLE p.d.t AS SELECT 1 AS x", "a CREATE TABLE with columns is expected"),
        ("CREATE TABLE p.d.t (x INT64 DEFAULT 3)", "x: DEFAULT 3"),
        ("CREATE TABLE p.d.t (x ARRAY<INT64> NOT NULL)", "x: BigQuery has no NOT NULL on an ARRAY"),
        ("CREATE TABLE p.d.t (x RANGE<DATE>)", "column x: type RANGE<DATE> is not supported; supported are BIGNUMERIC"),
        ("CREATE TABLE p.d.t (x INT64) OPTIONS (kms_key_name = 'k')", "t: kms_key_name"),
        ("CREATE TABLE p.d.t (x INT64, b INT64, X STRING)", "X: x has the same name"),
        ("CREATE TABLE p.d.t (x STRUCT<b INT64, B STRING>)", "B: b has the same name"),
        ("CREATE TABLE p.d.t (x ARRAY<STRUCT<y STRUCT<b INT64, b INT64>>>)", "b: b has the same name"),
        ("CREATE TABLE p.d.t (x INT64) OPTIONS (partition_expiration_days = 3)", "needs PARTITION BY"),
        ("CREATE TABLE p.d.t (x INT64) OPTIONS (description = 3)", "description"),
        ("CREATE TABLE p.d.t (x DATE) PARTITION BY x OPTIONS (partition_expiration_days = 'x')", "expiration"),
        ("CREATE TABLE p.d.t (x", "Expecting"),
    ],
)
def test_unsupported_ddl_is_an_error_that_names_it(ddl: str, message: str) -> None:
    with pytest.raises(UnknownDdl, match=message.replace("(", r"\(")):
        declared_table(ddl)


@pytest.mark.parametrize(
    ("columns", "by", "field"),
    [("x DATE", "X", "x"), ("X TIMESTAMP", "DATE(x)", "X"), ("x DATETIME", "DATE(`x`)", "x")],
)
def test_partitions_are_days_of_a_column(columns: str, by: str, field: str) -> None:
    partitioning = declared_table(f"CREATE TABLE p.d.t ({columns}) PARTITION BY {by}").time_partitioning
    assert (partitioning.type_, partitioning.field) == ("DAY", field)


@pytest.mark.parametrize(
    ("columns", "by"),
    [
        ("x TIMESTAMP", "TIMESTAMP_TRUNC(x, HOUR)"),
        ("x TIMESTAMP", "TIMESTAMP_TRUNC(x, DAY)"),
        ("x DATE", "DATE_TRUNC(x, MONTH)"),
        ("x INT64", "RANGE_BUCKET(x, GENERATE_ARRAY(0, 10, 1))"),
        ("x DATE", "_PARTITIONDATE"),
        ("x DATE", "y"),
        ("x TIMESTAMP", "x"),
        ("x TIMESTAMP", "DATE(x, 'Europe/Paris')"),
        ("x STRING", "DATE(x)"),
    ],
)
def test_unsupported_partitioning_names_the_supported_ones(columns: str, by: str) -> None:
    with pytest.raises(UnknownDdl, match=r"by a column of type DATE, or by DATE\(column\)") as raised:
        declared_table(f"CREATE TABLE p.d.t ({columns}) PARTITION BY {by}")
    assert f"PARTITION BY {by}: " in str(raised.value)


def test_dialect_is_loaded_with_the_module() -> None:
    """sqlglot loads a dialect at its first use by name, and another thread may then see half of it."""
    check = "import sys, functions.schema.ddl; sys.exit('sqlglot.dialects.bigquery' not in sys.modules)"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
