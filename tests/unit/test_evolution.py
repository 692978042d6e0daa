"""Evolution: changes that a live table may follow, and those that are rejected."""

from typing import Any

import pytest
from google.cloud import bigquery
from hypothesis import given
from hypothesis import strategies as st

from functions.schema.ddl import declared_table
from functions.schema.table_diff import TableDiff, table_diff

BASE = """
CREATE TABLE `p.d.t` (
  id STRING NOT NULL OPTIONS (description = "The id"),
  amount NUMERIC(10, 2),
  code STRING(8),
  tags ARRAY<STRING>,
  items ARRAY<STRUCT<sku STRING NOT NULL, n INT64>>,
  address STRUCT<city STRING, geo STRUCT<lat FLOAT64, floor INT64>> NOT NULL,
  count INT64 NOT NULL,
  at TIMESTAMP,
  day DATE
)
PARTITION BY day
CLUSTER BY id
OPTIONS (description = "Base", partition_expiration_days = 90, labels = [("env", "dev")])
"""


def evolved(before: str, after: str, **live: Any) -> TableDiff:
    """BASE is live; `before` in it is declared as `after`."""
    assert before in BASE
    table = bigquery.Table.from_api_repr({**declared_table(BASE).to_api_repr(), **live})
    return table_diff(table, BASE.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "diff", "fields"),
    [
        ("  day DATE", "  day DATE,\n  note STRING", "+ note STRING", ["schema"]),
        ("  code STRING(8),", "  note ARRAY<INT64>,\n  code STRING(8),", "+ note ARRAY<INT64>", ["schema"]),
        ("n INT64", "n INT64, color STRING", "+ items.color STRING", ["schema"]),
        ("floor INT64", "floor INT64, lon FLOAT64", "+ address.geo.lon FLOAT64", ["schema"]),
        (
            "  day DATE",
            "  day DATE,\n  who STRUCT<name STRING NOT NULL, at TIMESTAMP>",
            "+ who STRUCT<name STRING NOT NULL, at TIMESTAMP>",
            ["schema"],
        ),
        ("id STRING NOT NULL", "id STRING", "~ id NOT NULL -> NULLABLE", ["schema"]),
        ("sku STRING NOT NULL", "sku STRING", "~ items.sku NOT NULL -> NULLABLE", ["schema"]),
        ("The id", "Its id", '~ id description "The id" -> "Its id"', ["schema"]),
        (' OPTIONS (description = "The id")', "", '- id description "The id"', ["schema"]),
        ("n INT64", 'n INT64 OPTIONS (description = "Units")', '+ items.n description "Units"', ["schema"]),
        ('"Base"', '"Other"', '~ description "Base" -> "Other"', ["description"]),
        ('("env", "dev")', '("env", "dev"), ("a", "b")', '+ label a "b"', ["labels"]),
        ('("env", "dev")', '("env", "prod")', '~ label env "dev" -> "prod"', ["labels"]),
        ("days = 90", "days = 91", "~ partition expiration 90 days -> 91 days", ["time_partitioning"]),
        ("days = 90", "days = NULL", "~ partition expiration 90 days -> none", ["time_partitioning"]),
        ("CLUSTER BY id", "CLUSTER BY id, code", "~ clustering ['id'] -> ['id', 'code']", ["clustering_fields"]),
        (
            "expiration_days = 90",
            "expiration_days = 90, require_partition_filter = TRUE",
            "+ require_partition_filter True",
            ["require_partition_filter"],
        ),
    ],
)
def test_additive_change_is_applied(before: str, after: str, diff: str, fields: list[str]) -> None:
    evolution = evolved(before, after)
    assert ([str(difference) for difference in evolution.differences], evolution.rejected) == ([diff], [])
    assert list(evolution.fields) == fields
    assert not table_diff(evolution.table, BASE.replace(before, after)).differences


@pytest.mark.parametrize(
    ("before", "after", "diff"),
    [
        ("code STRING(8)", "code INT64", "~ code STRING(8) -> INT64: BigQuery converts no STRING into INT64"),
        ("at TIMESTAMP", "at STRUCT<d DATE>", "~ at TIMESTAMP -> STRUCT<d DATE>: BigQuery converts no TIMESTAMP"),
        ("n INT64", "n NUMERIC", "~ items.n INT64 -> NUMERIC: BigQuery converts no values in an ARRAY"),
        ("sku STRING NOT NULL, n INT64", "n INT64, sku STRING NOT NULL", "~ items order sku, n -> n, sku: BigQuery"),
        ("  code STRING(8),\n", "", "- code STRING(8): the DDL has no such column"),
        ("sku STRING NOT NULL, ", "", "- items.sku STRING NOT NULL: the DDL has no such column"),
        ("amount NUMERIC(10, 2)", "amount NUMERIC(10, 2) NOT NULL", "~ amount NULLABLE -> NOT NULL: existing rows"),
        ("  day DATE", "  day DATE,\n  note STRING NOT NULL", "+ note STRING NOT NULL: a new column cannot be"),
        ("n INT64", "color STRING, n INT64", "+ items.color STRING: a new field of a STRUCT must be the last"),
        ("tags ARRAY<STRING>", "tags STRING", "~ tags ARRAY -> NULLABLE: BigQuery cannot make"),
        ("code STRING(8)", "code ARRAY<STRING(8)>", "~ code NULLABLE -> ARRAY: BigQuery cannot make"),
        ("STRING(8)", "STRING(7)", "~ code STRING(8) -> STRING(7): existing values may not fit"),
        ("NUMERIC(10, 2)", "NUMERIC(10, 3)", "~ amount NUMERIC(10, 2) -> NUMERIC(10, 3): existing values"),
        ("tags ARRAY<STRING>", "tags ARRAY<STRING(3)>", "~ tags ARRAY<STRING> -> ARRAY<STRING(3)>: existing values"),
        ("days = 90", "days = 30", "~ partition expiration 90 days -> 30 days: it would delete partitions at once"),
        ("PARTITION BY day", "PARTITION BY DATE(at)", "~ partitioning DAY of day -> DAY of at: BigQuery cannot"),
    ],
)
def test_change_that_is_not_additive_is_rejected_with_the_reason(before: str, after: str, diff: str) -> None:
    evolution = evolved(before, after)
    assert evolution.rejected
    assert any(str(rejection).startswith(diff) for rejection in evolution.rejected), [
        str(rejection) for rejection in evolution.rejected
    ]
    assert not evolution.manual_statements


@pytest.mark.parametrize(
    ("before", "after", "diff", "converted"),
    [
        ("STRING(8)", "STRING(9)", "~ code STRING(8) -> STRING(9)", "code SET DATA TYPE STRING(9)"),
        ("STRING(8)", "STRING", "~ code STRING(8) -> STRING", "code SET DATA TYPE STRING"),
        (
            "NUMERIC(10, 2)",
            "NUMERIC(12, 4)",
            "~ amount NUMERIC(10, 2) -> NUMERIC(12, 4)",
            "amount SET DATA TYPE NUMERIC(12, 4)",
        ),
        (
            "NUMERIC(10, 2)",
            "BIGNUMERIC",
            "~ amount NUMERIC(10, 2) -> BIGNUMERIC",
            "amount SET DATA TYPE BIGNUMERIC",
        ),
        ("count INT64 NOT NULL", "count NUMERIC", "~ count INT64 NOT NULL -> NUMERIC", "count SET DATA TYPE NUMERIC"),
        (
            "floor INT64>",
            "floor NUMERIC, color STRING>",
            "~ address.geo.floor INT64 -> NUMERIC",
            "address SET DATA TYPE STRUCT<city STRING, geo STRUCT<lat FLOAT64, floor NUMERIC>>",
        ),
    ],
)
def test_conversion_by_statement_only_is_rejected_with_the_statement(
    before: str, after: str, diff: str, converted: str
) -> None:
    evolution = evolved(before, after)
    rejections = [str(rejection) for rejection in evolution.rejected]
    assert rejections == [f"{diff}: BigQuery converts it only by ALTER COLUMN SET DATA TYPE"]
    assert evolution.manual_statements == [f"ALTER TABLE `p.d.t` ALTER COLUMN {converted}"]


def test_columns_in_another_order_are_no_difference() -> None:
    """BigQuery appends a new column wherever the DDL has it."""
    assert not evolved(
        "  amount NUMERIC(10, 2),\n  code STRING(8),", "  code STRING(8),\n  amount NUMERIC(10, 2),"
    ).differences


def test_renamed_column_is_reported_as_dropped_and_added() -> None:
    evolution = evolved("  code STRING(8),", "  codes STRING(8),")
    assert [str(difference).partition(":")[0] for difference in evolution.differences] == [
        "- code STRING(8)",
        "+ codes STRING(8)",
    ]
    assert [rejection.path for rejection in evolution.rejected] == ["code"]


def test_expiration_may_be_removed_but_not_added() -> None:
    evolution = evolved("days = 90", "days = NULL")
    assert evolution.table.to_api_repr()["timePartitioning"]["expirationMs"] is None
    without_end = declared_table(BASE.replace("days = 90", "days = NULL"))
    assert [rejection.path for rejection in table_diff(without_end, BASE).rejected] == ["partition expiration"]


def test_a_table_without_columns_gets_them() -> None:
    live = declared_table(BASE.replace(" NOT NULL", "")).to_api_repr()
    del live["schema"]
    evolution = table_diff(bigquery.Table.from_api_repr(live), BASE.replace(" NOT NULL", ""))
    assert (len(evolution.differences), evolution.rejected) == (9, [])


def test_a_protected_column_gets_its_policy_tag_and_keeps_it() -> None:
    live = declared_table(BASE)
    tags = {"id": "tags/1", "items.sku": "tags/2"}
    protected = table_diff(live, BASE, tags)
    assert [str(difference) for difference in protected.differences] == [
        '+ id policy tag "tags/1"',
        '+ items.sku policy tag "tags/2"',
    ]
    assert protected.fields == ["schema"]
    assert not table_diff(protected.table, BASE, tags).differences
    assert not table_diff(protected.table, BASE).differences
    [moved] = table_diff(protected.table, BASE, {**tags, "id": "tags/3"}).differences
    assert str(moved) == '~ id policy tag "tags/1" -> "tags/3"'


def test_new_column_has_its_policy_tag() -> None:
    wider = BASE.replace("  day DATE", "  day DATE,\n  secret BYTES")
    schema = table_diff(declared_table(BASE), wider, {"secret": "tags/1"}).table.schema
    assert schema[-1].to_api_repr()["policyTags"] == {"names": ["tags/1"]}


def test_labels_and_policy_tags_of_others_are_kept() -> None:
    evolution = evolved('"Base"', '"Other"', labels={"env": "dev", "goog-terraform": "true"})
    assert evolution.table.labels == {"env": "dev", "goog-terraform": "true"}
    live = declared_table(BASE).to_api_repr()
    live["schema"]["fields"][0]["policyTags"] = {"names": ["projects/p/locations/l/taxonomies/1/policyTags/2"]}
    evolution = table_diff(bigquery.Table.from_api_repr(live), BASE.replace("  day DATE", "  day DATE, note STRING"))
    assert evolution.table.to_api_repr()["schema"]["fields"][0]["policyTags"] == {
        "names": ["projects/p/locations/l/taxonomies/1/policyTags/2"]
    }


def some_fields(inner: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    """Some fields in any order."""
    return st.dictionaries(st.sampled_from(["f", "g", "h"]), inner, min_size=1)


TYPES = st.recursive(
    st.sampled_from(["STRING", "STRING(5)", "INT64", "NUMERIC", "BOOL", "TIMESTAMP", "JSON"]),
    lambda inner: (
        some_fields(inner).map(lambda kinds: f"STRUCT<{', '.join(f'{name} {kind}' for name, kind in kinds.items())}>")
        | inner.filter(lambda kind: not kind.startswith("ARRAY")).map(lambda kind: f"ARRAY<{kind}>")
    ),
    max_leaves=4,
)


def table(kinds: dict[str, str]) -> str:
    return f"CREATE TABLE `p.d.t` ({', '.join(f'{name} {kind}' for name, kind in kinds.items())})"


SCHEMAS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), TYPES, min_size=1)


@given(SCHEMAS, SCHEMAS)
def test_table_matches_its_ddl_unless_the_change_is_rejected(live: dict[str, str], declared: dict[str, str]) -> None:
    evolution = table_diff(declared_table(table(live)), table(declared))
    names = [field.name for field in evolution.table.schema]
    assert names[: len(live)] == list(live)
    if not evolution.rejected:
        wanted = {field.name: field for field in declared_table(table(declared)).schema}
        assert {field.name: field for field in evolution.table.schema} == wanted
        assert not table_diff(evolution.table, table(declared)).differences
