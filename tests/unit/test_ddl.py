"""DDL as tables of the BigQuery API."""

import pathlib
import subprocess
import sys
from typing import Any

import pytest

from functions.ddl import UnknownDdl, declared_table

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
    ("ddl", "told"),
    [
        ("SELECT 1", "not a CREATE TABLE"),
        ("CREATE VIEW p.d.t AS SELECT 1 AS x", "not a CREATE TABLE"),
        ("CREATE TABLE p.d.t AS SELECT 1 AS x", "not a CREATE TABLE"),
        ("CREATE TABLE p.d.t (x INT64 DEFAULT 3)", "x: DEFAULT 3"),
        ("CREATE TABLE p.d.t (x ARRAY<INT64> NOT NULL)", "x: BigQuery has no NOT NULL on an ARRAY"),
        ("CREATE TABLE p.d.t (x RANGE<DATE>)", "x: the type RANGE"),
        ("CREATE TABLE p.d.t (x INT64) OPTIONS (kms_key_name = 'k')", "t: kms_key_name"),
        ("CREATE TABLE p.d.t (x TIMESTAMP) PARTITION BY TIMESTAMP_TRUNC(x, HOUR)", "PARTITION BY"),
        ("CREATE TABLE p.d.t (x INT64) OPTIONS (partition_expiration_days = 3)", "without PARTITION BY"),
        ("CREATE TABLE p.d.t (x INT64) OPTIONS (description = 3)", "description"),
        ("CREATE TABLE p.d.t (x DATE) PARTITION BY x OPTIONS (partition_expiration_days = 'x')", "expiration"),
        ("CREATE TABLE p.d.t (x", "Expecting"),
    ],
)
def test_what_could_not_be_compared_is_an_error_that_names_it(ddl: str, told: str) -> None:
    with pytest.raises(UnknownDdl, match=told.replace("(", r"\(")):
        declared_table(ddl)


def test_the_dialect_is_loaded_with_the_module_for_its_first_statements_may_be_read_by_several_threads() -> None:
    """sqlglot loads a dialect at its first use by name, and another thread may then see half of it."""
    check = "import sys, functions.ddl; sys.exit('sqlglot.dialects.bigquery' not in sys.modules)"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
