"""`sql/` keeps BigQuery's own rules, and each rule can be broken."""

import pytest

from functions.schema.definitions import Kind, definitions
from sluice.queries import queries
from tests.support.sql_arguments import PROJECT, SETTINGS, given
from tests.support.sql_rules import RULES, violations

DEFINITIONS = definitions(PROJECT, SETTINGS)
TABLES = [definition.ddl for definition in DEFINITIONS if definition.kind is Kind.TABLE]

STATEMENTS = {
    # sqlglot does not parse an external table; Google's analyzer does: test_analysis.py.
    **{definition.name: definition.ddl for definition in DEFINITIONS if definition.kind is not Kind.EXTERNAL},
    **{query.name: query.bind(PROJECT, SETTINGS, given(query)).sql for query in queries().values()},
}

BASE = "CREATE TABLE `p.d.base` (day DATE, a INT64, b STRING) PARTITION BY day"
LONG = "x" * 1025

BROKEN = {
    "CREATE TABLE `p.d.t` (a INT64) OPTIONS (expires = 3)": "TABLE expires",
    "CREATE TABLE `p.d.t` (a INT64) OPTIONS (enable_refresh = TRUE)": "TABLE enable_refresh",
    "CREATE TABLE `p.d.t` (a INT64 OPTIONS (descripton = 'a'))": "COLUMN a descripton",
    "CREATE TABLE `p.d.t` (s STRUCT<a INT64 OPTIONS (labels = [])>)": "COLUMN a labels",
    "CREATE VIEW `p.d.v` (a OPTIONS (rounding_mode = 'a')) AS SELECT 1 AS a": "VIEW COLUMN a rounding_mode",
    "CREATE VIEW `p.d.v` OPTIONS (partition_expiration_days = 1) AS SELECT 1 AS a": "VIEW partition_expiration_days",
    "CREATE SCHEMA `p.d` OPTIONS (default_table_expiration_ms = 1)": "SCHEMA default_table_expiration_ms",
    "CREATE SNAPSHOT TABLE `p.d.s` CLONE `p.d.t` OPTIONS (partition_expiration_days = 1)": "SNAPSHOT partition_",
    "CREATE TABLE `p.d.s` CLONE `p.d.t` OPTIONS (partition_days = 1)": "TABLE partition_days",
    "EXPORT DATA OPTIONS (uri = 'gs://b/*', codec = 'SNAPPY') AS SELECT 1 AS a": "EXPORT codec",
    "CREATE TABLE `p.d.t` (a ARRAY<INT64> NOT NULL)": "an ARRAY cannot be NOT NULL: a",
    "CREATE TABLE `p.d.t` (s STRUCT<a ARRAY<INT64> NOT NULL>)": "an ARRAY cannot be NOT NULL: a",
    "CREATE TABLE `p.d.t` (a INT64, b INT64, c INT64, d INT64, e INT64) CLUSTER BY a, b, c, d, e": "5 columns",
    "CREATE TABLE `p.d.t` (a FLOAT64) CLUSTER BY a": "a DOUBLE",
    "CREATE TABLE `p.d.t` (a JSON) CLUSTER BY a": "a JSON",
    "CREATE TABLE `p.d.t` (a INT64) CLUSTER BY b": "b None",
    "CREATE TABLE `p.d.t` (a STRING) PARTITION BY a": "a TEXT",
    "CREATE TABLE `p.d.t` (a DATE) PARTITION BY DATE(a)": "partitioning",
    "CREATE TABLE `p.d.t` (s STRUCT<a DATE>) PARTITION BY a": "a None",
    "CREATE MATERIALIZED VIEW `p.d.m` PARTITION BY a AS SELECT a, COUNT(*) AS n FROM `p.d.base` GROUP BY a": (
        "a and day of base"
    ),
    "CREATE MATERIALIZED VIEW `p.d.m` AS SELECT a, SUM(a) + 1 AS n FROM `p.d.base` GROUP BY a": "computed",
    "CREATE MATERIALIZED VIEW `p.d.m` AS SELECT a, COUNT(*) AS n FROM `p.d.base` GROUP BY a HAVING n > 1": "HAVING",
    "CREATE MATERIALIZED VIEW `p.d.m` AS SELECT a FROM `p.d.base` WHERE day = CURRENT_DATE()": "CURRENT_DATE",
    "CREATE MATERIALIZED VIEW `p.d.m` AS SELECT ROW_NUMBER() OVER () AS n FROM `p.d.base`": "ROW_NUMBER",
    "CREATE MATERIALIZED VIEW `p.d.m` AS SELECT a FROM `p.d.base` ORDER BY a": "ORDER BY",
    "CREATE MATERIALIZED VIEW `p.d.m` AS SELECT a FROM `p.d.base` UNION ALL SELECT a FROM `p.d.base`": "UNION ALL",
    "CREATE MATERIALIZED VIEW `p.d.m` AS SELECT STDDEV(a) AS n FROM `p.d.base`": "the aggregate STDDEV",
    "CREATE TABLE `p.d.t` (a INT64) OPTIONS (labels = [('Team', 'x')])": "Team=x",
    "CREATE TABLE `p.d.t` (a INT64) OPTIONS (labels = [('team', 'The X')])": "team=The X",
    f"CREATE TABLE `p.d.t` (a INT64) OPTIONS (labels = [{', '.join(f"('k{i}', '')" for i in range(65))}])": "65 labels",
    "CREATE TABLE `p.d.t` (`a-b` INT64)": "a column's name: a-b",
    "CREATE TABLE `p.d.t` (_PARTITIONDAY DATE)": "a column's name: _PARTITIONDAY",
    f"CREATE TABLE `p.d.t` (a INT64 OPTIONS (description = '{LONG}'))": "a: 1025 characters",
    "SELECT 1 FROM `p`.d.INFORMATION_SCHEMA.JOBS": "d.INFORMATION_SCHEMA.JOBS",
    "SELECT 1 FROM `p`.`region-us`.INFORMATION_SCHEMA.PARTITIONS": "region-us.INFORMATION_SCHEMA.PARTITIONS",
    "SELECT a FROM `p.d.t` QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1": "QUALIFY needs",
    "SELECT a FROM `d.t`": "a table has its project and dataset: t",
    "SELECT a FROM t": "a table has its project and dataset: t",
    "CREATE VIEW `p.d.v` AS SELECT @a AS a": "a view takes no parameters: @a",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_statement_keeps_all_rules(name: str) -> None:
    assert violations(STATEMENTS[name], TABLES) == []


@pytest.mark.parametrize(("sql", "place"), BROKEN.items())
def test_statement_that_breaks_a_rule_is_reported(sql: str, place: str) -> None:
    broken_rules = violations(sql, [BASE])
    assert [violation for violation in broken_rules if place in violation], broken_rules
    assert len(broken_rules) == 1


def test_each_rule_has_a_statement_that_breaks_it() -> None:
    broken_rules = {violation.partition(":")[0] for sql in BROKEN for violation in violations(sql, [BASE])}
    assert broken_rules == {rule.name.partition(":")[0] for rule in RULES}
