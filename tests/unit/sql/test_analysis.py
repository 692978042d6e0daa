"""Google's own analyzer accepts each statement of `sql/`."""

import re
from typing import Any

import msgspec
import pytest
import sqlglot

from functions.archive.envelope import Envelope
from functions.events import event_types
from functions.schema.ddl import Field, declared_table
from functions.schema.definitions import FOLDER, Definition, Kind, definitions
from functions.schema.table_diff import table_diff
from sluice.queries import Query, queries
from tests.support.information_schema import VIEWS
from tests.support.samples import archive_snippets
from tests.support.sql_analyzer import Analyzer, WrongSql, fields
from tests.support.sql_arguments import PROJECT, SETTINGS, given
from tests.support.sql_rules import violations
from tests.support.terraform import Planned

pytestmark = pytest.mark.check

DEFINITIONS = {definition.name: definition for definition in definitions(PROJECT, SETTINGS)}
TABLES = [definition for definition in DEFINITIONS.values() if definition.kind is Kind.TABLE]
TABLE_DDL = [table.ddl for table in TABLES]
QUERIES = queries()

ORDERS = f"`{PROJECT}.{SETTINGS.dataset}.orders`"


@pytest.mark.parametrize("name", DEFINITIONS)
def test_each_definition_is_one_valid_statement(analyzer: Analyzer, name: str) -> None:
    assert len(analyzer.analyze(DEFINITIONS[name].ddl)) == 1


def test_manual_statements_are_valid_sql(analyzer: Analyzer) -> None:
    ddl = DEFINITIONS[f"{SETTINGS.dataset}.orders"].ddl
    live = ddl.replace("order_id STRING", "order_id STRING(8)").replace("total_amount NUMERIC", "total_amount INT64")
    live = live.replace("street STRING", "street STRING(20)")
    statements = table_diff(declared_table(live), ddl).manual_statements
    assert [statement.split()[5] for statement in statements] == ["order_id", "shipping_address", "total_amount"]
    for statement in statements:
        assert analyzer.analyze(statement)


def test_external_table_of_the_archive_has_the_envelope_fields() -> None:
    analyzer = Analyzer(PROJECT, SETTINGS)
    snippets = archive_snippets()
    [external] = [definition for definition in DEFINITIONS.values() if definition.kind is Kind.EXTERNAL]
    [table] = analyzer.analyze(external.ddl)
    assert [field["name"] for field in fields(table.resolved)] == list(Envelope.__struct_fields__)
    analyzer.add(table.resolved)
    expected = {
        "bigquery-query": ["event_id", "publish_time", "producer", "original_bytes", "order_id"],
        "bigquery-deliveries": ["hr", "event_type", "deliveries"],
    }
    for title, names in expected.items():
        # The analyzer has no pseudo-columns.
        sql = (
            snippets[title].replace("PROJECT.DATASET", f"{PROJECT}.{SETTINGS.dataset}").replace("_FILE_NAME", "origin")
        )
        [query] = analyzer.analyze(sql)
        assert [column.name for column in query.resolved.output_column_list] == names


@pytest.mark.parametrize("query", QUERIES.values(), ids=lambda query: query.name)
def test_the_analyzer_takes_each_query_with_its_parameters(analyzer: Analyzer, query: Query) -> None:
    bound = query.bind(PROJECT, SETTINGS, given(query))
    assert analyzer.analyze(bound.sql, bound.parameters)


@pytest.fixture(scope="module")
def scheduled(planned: Planned) -> dict[str, str]:
    """Return the queries that Terraform schedules, by name: `keep history of orders`."""
    return {
        resource["display_name"].partition(": ")[2]: resource["params"]["query"]
        for address, resource in planned.items()
        if address.startswith("google_bigquery_data_transfer_config.scheduled[")
    }


def test_scheduled_history_queries_are_valid_sql(analyzer: Analyzer, scheduled: dict[str, str]) -> None:
    queries_of_tables = [sql for name, sql in scheduled.items() if name.startswith("keep history of ")]
    assert len(queries_of_tables) == len({event_type.table for event_type in event_types().values()})
    for sql in queries_of_tables:
        [statement] = analyzer.analyze(sql)
        assert type(statement.resolved).__name__ == "ResolvedMergeStmt"
        assert violations(sql, TABLE_DDL) == []


def test_scheduled_snapshots_and_their_statements_are_valid_sql(analyzer: Analyzer, scheduled: dict[str, str]) -> None:
    """The statement has its own time in its name, and so is made by another one."""
    of_tables = {name.removeprefix("snapshot of "): sql for name, sql in scheduled.items() if "snapshot of" in name}
    assert of_tables.keys() == {table.name.partition(".")[2] for table in TABLES}
    for table, sql in of_tables.items():
        [outer] = analyzer.analyze(sql)
        assert type(outer.resolved).__name__ == "ResolvedExecuteImmediateStmt"
        made = analyzer.evaluate(sql.partition("EXECUTE IMMEDIATE ")[2])
        [inner] = analyzer.analyze(made)
        assert inner.resolved.clone_from.table.name == f"{PROJECT}.{SETTINGS.dataset}.{table}"
        snapshot = rf"{PROJECT}\.{SETTINGS.historical_dataset}\.{table}_\d{{8}}T\d{{6}}"
        assert re.fullmatch(snapshot, ".".join(inner.resolved.name_path))
        assert violations(made, TABLE_DDL) == []


def parsed(definition: Definition) -> list[Field]:
    def relevant(field: Any) -> Field:
        nested = {"fields": [relevant(inner) for inner in field["fields"]]} if "fields" in field else {}
        return {"name": field["name"], "type": field["type"], "mode": field["mode"], **nested}

    return [relevant(field.to_api_repr()) for field in declared_table(definition.ddl).schema]


@pytest.mark.parametrize("definition", TABLES, ids=lambda definition: definition.name)
def test_bootstrap_and_analyzer_read_the_same_columns(analyzer: Analyzer, definition: Definition) -> None:
    [statement] = analyzer.analyze(definition.ddl)
    assert parsed(definition) == fields(statement.resolved)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (f"SELECT colour FROM {ORDERS}", "Unrecognized name: colour"),
        (f"SELECT items.price FROM {ORDERS}", "Cannot access field price on a value with type ARRAY"),
        (f"SELECT shipping_address.zip FROM {ORDERS}", "Field name zip does not exist"),
        (f"SELECT order_id + 1 FROM {ORDERS}", "No matching signature for operator +"),
        (f"SELECT order_id FROM {ORDERS} WHERE event_date = 20261123", "No matching signature for operator ="),
        (f"SELECT status, COUNT(*) FROM {ORDERS}", "neither grouped nor aggregated"),
        (f"SELECT SUM(total_amount) FROM {ORDERS} WHERE event_date > @day", "Query parameter 'day' not found"),
        (f"SELECT order_id FROM {ORDERS} WHERE event_date > @days", "No matching signature for operator >"),
        (f"SELECT TOTALLY(order_id) FROM {ORDERS}", "Function not found: TOTALLY"),
        (f"SELECT 1 FROM `{PROJECT}.{SETTINGS.dataset}.invoices`", "Table not found"),
        (f"SELECT 1 FROM `{PROJECT}`.`region-us-central1`.INFORMATION_SCHEMA.PARTITIONS", "Table not found"),
        (f"SELECT row_count FROM `{PROJECT}`.`region-us-central1`.INFORMATION_SCHEMA.TABLE_STORAGE", "Unrecognized"),
        (f"MERGE {ORDERS} t USING {ORDERS} s ON t.order_id = s.ordr_id WHEN MATCHED THEN DELETE", "ordr_id"),
        (f"CREATE SNAPSHOT TABLE `a.b.c` CLONE `{PROJECT}.a.b`", "Table not found"),
        (f"EXPORT DATA OPTIONS (uri = 'gs://a/*') AS SELECT colour FROM {ORDERS}", "Unrecognized name: colour"),
        (f"SELECT 1; SELECT colour FROM {ORDERS}", "Unrecognized name: colour"),
        ("SELECT 1 FRM x", "Syntax error"),
    ],
)
def test_invalid_sql_is_rejected(analyzer: Analyzer, sql: str, why: str) -> None:
    with pytest.raises(WrongSql, match=re.escape(why)):
        analyzer.analyze(sql, {"days": ("INT64", 1)})


def test_query_of_a_column_missing_in_a_view_is_rejected() -> None:
    fresh = Analyzer(PROJECT, SETTINGS)
    [table] = fresh.analyze("CREATE TABLE `a.b.t` (x INT64, y STRUCT<z STRING>)")
    fresh.add(table.resolved)
    [view] = fresh.analyze("CREATE VIEW `a.b.v` AS SELECT y.z AS w FROM `a.b.t`")
    fresh.add(view.resolved)
    fresh.analyze("SELECT w FROM `a.b.v`")
    with pytest.raises(WrongSql, match="Unrecognized name: x"):
        fresh.analyze("SELECT x FROM `a.b.v`")


def test_no_view_shows_raw_columns_of_dead_letters() -> None:
    """The columns that `policy_tags.json` calls raw; who may read a view need not be one who may read them."""
    tags = msgspec.json.decode((FOLDER / "policy_tags.json").read_bytes())
    raw = {place.split(".")[-1] for place in tags["raw"] if place.startswith("dead_letters.")}
    readers = [
        definition
        for definition in DEFINITIONS.values()
        if definition.kind is Kind.VIEW and "dead_letter" in definition.ddl
    ]
    names = ("dead_letter_status", "dead_letter_summary")
    assert [view.name for view in readers] == [f"{SETTINGS.dataset}.{name}" for name in names]
    for view in readers:
        query = sqlglot.parse_one(view.ddl, dialect="bigquery").expression
        parts = {part.name for part in query.find_all(sqlglot.exp.Identifier, sqlglot.exp.Star)}
        assert "*" not in parts
        assert parts & raw == set()


def test_no_metadata_view_is_written_down_that_nothing_reads() -> None:
    read = {name for query in QUERIES.values() for name in re.findall(r"INFORMATION_SCHEMA\.(\w+)", query.template)}
    assert read == VIEWS.keys()
