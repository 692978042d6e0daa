"""Agreement: a contract that agrees with its table has no valid event that the table does not take."""

import json
import math
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from google.cloud.bigquery import SchemaField
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from functions.core.contracts import FOLDER, Contract, Contracts
from functions.core.pipeline import EventPipeline
from functions.core.privacy import Privacy
from functions.core.rows import Row, RowConverter
from functions.events import EventType, event_types
from functions.schema.ddl import declared_table
from sluice.contract.finding import ContractFinding
from sluice.contract.table_fit import STANDARD_COLUMNS, agreement, standard_columns
from tests.support import schema_strategies
from tests.support.row_checks import declared_columns, misfits
from tests.support.samples import NOW, message

TYPE = EventType("drawn", "timestamp", lambda _columns, _privacy: {})
HEAD = {"event_type": {"type": "string", "const": "drawn"}, "timestamp": {"type": "string", "format": "date-time"}}
HEAD["timestamp"]["maxLength"] = 64  # type: ignore[assignment]
HEAD_COLUMNS = "event_type STRING NOT NULL, timestamp TIMESTAMP NOT NULL"


def contract(properties: dict[str, Any], *required: str, **keywords: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [*HEAD, *required],
        "properties": {**HEAD, **properties},
        **keywords,
    }


def columns(ddl: str) -> list[SchemaField]:
    text = ", ".join(filter(None, [HEAD_COLUMNS, ddl]))
    return [*declared_table(f"CREATE TABLE `p.d.drawn` ({text})").schema, *STANDARD_COLUMNS]


def problems_of(schema: dict[str, Any], ddl: str) -> list[tuple[str, str]]:
    return [(finding.path, finding.problem) for finding in agreement(schema, columns(ddl), "drawn", TYPE)]


TEXT = {"type": "string", "maxLength": 5}
COUNT = {"type": "integer", "minimum": 0, "maximum": 9}
AMOUNT = {"type": "number", "minimum": 0, "maximum": 999.99}
NESTED = {"type": "object", "required": ["b"], "properties": {"b": TEXT}}
LIST = {"type": "array", "maxItems": 3}


@pytest.mark.parametrize("name", sorted(event_types()))
def test_each_contract_of_ours_agrees_with_its_table(name: str) -> None:
    table = declared_columns(event_types()[name].table)
    assert list(standard_columns(table)) == []
    for file in FOLDER.glob(f"{name}.v*.json"):
        assert list(agreement(json.loads(file.read_text()), table, name, event_types()[name])) == []


@pytest.mark.parametrize(
    ("schema", "ddl"),
    [
        (TEXT, "a STRING"),
        (TEXT, "a STRING(5)"),
        (TEXT, "A STRING"),
        ({"type": "string", "enum": ["xx", "yyyyy"]}, "a STRING(5)"),
        ({"type": ["string", "null"], "maxLength": 5}, "a STRING"),
        ({"type": "string", "maxLength": 64, "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}, "a STRING"),
        ({"type": "string", "format": "date-time", "maxLength": 64}, "a TIMESTAMP"),
        (COUNT, "a INT64"),
        (COUNT, "a NUMERIC"),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "a INT64"),
        ({"type": "integer", "exclusiveMinimum": 0, "maximum": 99}, "a NUMERIC(2)"),
        ({"type": "integer", "enum": [1, 2]}, "a INT64"),
        (AMOUNT, "a NUMERIC"),
        ({**AMOUNT, "multipleOf": 0.01}, "a NUMERIC(5, 2)"),
        ({"type": "number", "enum": [0.25, 9.5]}, "a NUMERIC(3, 2)"),
        ({"type": "boolean"}, "a BOOL"),
        ({"type": "object"}, "a JSON"),
        ({"type": "object", "additionalProperties": TEXT}, "a JSON"),
        (NESTED, "a STRUCT<b STRING NOT NULL>"),
        ({**NESTED, "if": {"properties": {"b": {"const": "x"}}}, "then": {"minProperties": 2}}, "a STRUCT<b STRING>"),
        ({**LIST, "items": TEXT}, "a ARRAY<STRING(5)>"),
        ({**LIST, "items": NESTED}, "a ARRAY<STRUCT<b STRING NOT NULL>>"),
        ({**LIST, "items": {"type": "object"}}, "a ARRAY<JSON>"),
        (TEXT, "a STRING, enriched ARRAY<STRING>, also INT64"),
    ],
)
def test_matching_contract_has_no_findings(schema: dict[str, Any], ddl: str) -> None:
    assert problems_of(contract({"a": schema}), ddl) == []


@pytest.mark.parametrize(
    ("schema", "ddl", "path", "problem"),
    [
        (TEXT, "b STRING", "$.a", "has no column with its name"),
        (TEXT, "a INT64", "$.a", "becomes STRING, but the column is INT64"),
        (TEXT, "a STRING(4)", "$.a", "may have 5 characters, but the column is STRING(4)"),
        (TEXT, "a ARRAY<STRING>", "$.a", "one value, but the column is an ARRAY<STRING>"),
        (TEXT, "a STRING NOT NULL", "$.a", "the column is NOT NULL, but the property is not required"),
        (TEXT, "a STRING, b STRING NOT NULL", "$.b", "the column is NOT NULL, but no property fills it"),
        ({"type": "string"}, "a STRING", "$.a", "a string needs `maxLength`, `enum` or `const`"),
        ({"type": "string", "enum": ["xx", "yyyyyy"]}, "a STRING(5)", "$.a", "may have 6 characters"),
        ({"type": "string", "format": "date-time", "maxLength": 64}, "a STRING", "$.a", "becomes TIMESTAMP"),
        ({"type": "string", "format": "date-time", "enum": ["2016-12-31T23:59:60Z"]}, "a TIMESTAMP", "$.a",
         "not a time that a TIMESTAMP can store"),
        ({**COUNT, "format": "date-time"}, "a INT64", "$.a", "the format date-time needs the type string"),
        ({"type": "integer", "minimum": 0}, "a INT64", "$.a", "a number needs `minimum` and `maximum`"),
        ({"type": "integer", "minimum": 0, "maximum": 2**63}, "a INT64", "$.a", "of INT64"),
        ({"type": "integer", "enum": [-(2**63) - 1]}, "a INT64", "$.a", "of INT64"),
        (COUNT, "a STRING", "$.a", "becomes INT64 or NUMERIC, but the column is STRING"),
        (AMOUNT, "a INT64", "$.a", "becomes NUMERIC, but the column is INT64"),
        (AMOUNT, "a FLOAT64", "$.a", "becomes NUMERIC, but the column is FLOAT"),
        (AMOUNT, "a NUMERIC(5, 2)", "$.a", '`"multipleOf": 0.01`'),
        ({**AMOUNT, "maximum": 1e29}, "a NUMERIC", "$.a", "29 integer digits of NUMERIC"),
        ({**AMOUNT, "maximum": 10**29 - 1}, "a NUMERIC", "$.a", "29 integer digits of NUMERIC"),
        ({**AMOUNT, "maximum": 999.995, "multipleOf": 0.01}, "a NUMERIC(5, 2)", "$.a", "3 integer digits"),
        ({"type": "integer", "minimum": 0, "maximum": 100}, "a NUMERIC(2)", "$.a", "2 integer digits of NUMERIC(2, 0)"),
        ({"type": "boolean"}, "a STRING", "$.a", "becomes BOOL"),
        ({"type": "object"}, "a STRUCT<b STRING>", "$.a", "becomes JSON, but the column is STRUCT"),
        (NESTED, "a JSON", "$.a", "becomes STRUCT, but the column is JSON"),
        (NESTED, "a STRUCT<c STRING>", "$.a.b", "has no column with its name"),
        (NESTED, "a STRUCT<b STRING, c STRING NOT NULL>", "$.a.c", "no property fills it"),
        ({**NESTED, "required": []}, "a STRUCT<b STRING NOT NULL>", "$.a.b", "the property is not required"),
        ({**NESTED, "required": ["b", "c"]}, "a STRUCT<b STRING>", "$.a.c", "is required, but not a property"),
        ({**NESTED, "additionalProperties": False}, "a STRUCT<b STRING>", "$.a", "`additionalProperties` rejects"),
        ({**NESTED, "patternProperties": {"^x": TEXT}}, "a STRUCT<b STRING>", "$.a", "`patternProperties` rejects"),
        ({**NESTED, "allOf": [{"properties": {"c": TEXT}}]}, "a STRUCT<b STRING>", "$.a.c", "is only in `allOf`"),
        ({**NESTED, "anyOf": [{"oneOf": [{"$ref": "#"}]}]}, "a STRUCT<b STRING>", "$.a", "$ref` is not supported"),
        ({**TEXT, "$ref": "#/x"}, "a STRING", "$.a", "`$ref` is not supported"),
        ({"$ref": "#/x"}, "a STRING", "$.a", "a column needs one type, but this schema allows none"),
        ({"anyOf": [TEXT, COUNT]}, "a STRING", "$.a", "a column needs one type, but this schema allows none"),
        ({**TEXT, "maxlength": 5}, "a STRING", "$.a", "`maxlength` is not supported"),
        ({"type": ["integer", "string"]}, "a STRING", "$.a", "this schema allows integer, string"),
        ({"type": "array", "items": TEXT}, "a ARRAY<STRING>", "$.a", "an array needs `maxItems`"),
        (LIST, "a ARRAY<STRING>", "$.a", "an array needs `items`"),
        ({**LIST, "items": TEXT}, "a STRING", "$.a", "an array, but the column is not an ARRAY: STRING"),
        ({**LIST, "items": COUNT}, "a ARRAY<STRING>", "$.a[*]", "becomes INT64"),
        ({**LIST, "items": {"type": "string"}}, "a ARRAY<STRING>", "$.a[*]", "a string needs `maxLength`"),
        ({**LIST, "items": {**TEXT, "type": ["string", "null"]}}, "a ARRAY<STRING>", "$.a[*]", "cannot contain NULL"),
        ({**LIST, "items": {**LIST, "items": TEXT}}, "a ARRAY<STRING>", "$.a[*]", "an array in an array"),
        ({**LIST, "items": NESTED}, "a ARRAY<STRUCT<c STRING>>", "$.a[*].b", "has no column with its name"),
    ],
)  # fmt: skip
def test_mismatch_is_reported_with_its_path(schema: dict[str, Any], ddl: str, path: str, problem: str) -> None:
    findings = problems_of(contract({"a": schema}), ddl)
    assert [(place, problem in text) for place, text in findings if problem in text] == [(path, True)], findings


def below(bound: float, doubles: int) -> float:
    """The double that comes so many before a bound."""
    for _ in range(doubles):
        bound = math.nextafter(bound, 0)
    return bound


@pytest.mark.parametrize(
    ("keywords", "column", "fits"),
    [
        ({"minimum": 0, "maximum": below(1e20, 2), "multipleOf": 1}, "NUMERIC(20)", True),
        ({"minimum": 0, "maximum": below(1e20, 1), "multipleOf": 1}, "NUMERIC(20)", False),
        ({"minimum": -below(1e20, 2), "maximum": 0, "multipleOf": 1}, "NUMERIC(20)", True),
        ({"minimum": -below(1e20, 1), "maximum": 0, "multipleOf": 1}, "NUMERIC(20)", False),
        ({"minimum": 0, "maximum": below(1e29, 2)}, "NUMERIC", True),
        ({"minimum": 0, "maximum": below(1e29, 1)}, "NUMERIC", False),
        ({"minimum": 0, "maximum": below(999.995, 2), "multipleOf": 0.01}, "NUMERIC(5, 2)", True),
        ({"minimum": 0, "maximum": below(999.995, 1), "multipleOf": 0.01}, "NUMERIC(5, 2)", False),
        ({"enum": [below(1e20, 1)]}, "NUMERIC(20)", True),
        ({"type": "integer", "minimum": 0, "maximum": 10**20 - 1}, "NUMERIC(20)", True),
        ({"type": "integer", "minimum": 0, "maximum": 10**20}, "NUMERIC(20)", False),
    ],
    ids=str,
)
def test_numeric_must_fit_the_double_beyond_a_bound(keywords: dict[str, Any], column: str, fits: bool) -> None:
    findings = problems_of(contract({"a": {"type": "number", **keywords}}), f"a {column}")
    assert [(path, "integer digits" in problem) for path, problem in findings] == [("$.a", True)] * (not fits)


def test_nullable_property_does_not_fit_a_not_null_column() -> None:
    nullable = {"type": ["string", "null"], "maxLength": 5}
    assert problems_of(contract({"a": nullable}, "a"), "a STRING NOT NULL") == [
        ("$.a", "may be null, but the column is NOT NULL")
    ]


@pytest.mark.parametrize("name", ["b.c", "1st", "größe", "x" * 301, "_PARTITIONTIME", "_table_suffix", ""])
def test_invalid_column_name_is_reported(name: str) -> None:
    findings = list(agreement(contract({name: TEXT}), columns(""), "drawn", TYPE))
    assert any(
        "name of a column" in finding.problem or "a prefix that BigQuery reserves" in finding.problem
        for finding in findings
    )


def test_names_that_differ_only_by_case_are_reported() -> None:
    assert (
        "$.A",
        "differs from another field only by case, but names in BigQuery are case-insensitive",
    ) in problems_of(contract({"a": TEXT, "A": TEXT}), "a STRING")


@pytest.mark.parametrize("name", ["ingest", "Extras", "event_date", "processed_timestamp"])
def test_a_property_never_takes_the_name_of_a_column_of_ours(name: str) -> None:
    assert (f"$.{name}", "is the name of a column that Sluice fills") in problems_of(contract({name: TEXT}), "")


@pytest.mark.parametrize(
    ("changes", "path", "problem"),
    [
        ({"properties": {**HEAD, "event_type": TEXT}}, "$.event_type", '"const": "drawn"'),
        ({"properties": {**HEAD, "timestamp": TEXT}}, "$.timestamp", "a string of format date-time"),
        ({"properties": {"event_type": HEAD["event_type"]}}, "$.timestamp", "a string of format date-time"),
        ({"required": ["event_type"]}, "$.timestamp", "so it must be required"),
        ({"type": ["object", "null"]}, "$", '"type": "object"'),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$", "`$schema` must be"),
        ({"additionalProperties": False}, "$", "`additionalProperties` rejects"),
        ({"unevaluatedProperties": False}, "$", "`unevaluatedProperties` rejects"),
    ],
)
def test_an_event_has_its_type_its_time_and_room_for_new_fields(
    changes: dict[str, Any], path: str, problem: str
) -> None:
    findings = problems_of({**contract({}), **changes}, "")
    assert [place for place, text in findings if problem in text] == [path], findings


def test_own_columns_are_required_with_their_types() -> None:
    short = SchemaField(
        "ingest", "RECORD", fields=[SchemaField("event_id", "INTEGER"), *STANDARD_COLUMNS[3].fields[1:]]
    )
    odd = [*STANDARD_COLUMNS[:1], SchemaField("extras", "JSON", mode="REQUIRED"), short]
    findings = list(standard_columns(odd))
    assert [finding.path for finding in findings] == ["event_date", "extras", "ingest.event_id"]
    added = SchemaField("region", "STRING", mode="REQUIRED")
    longer = SchemaField("ingest", "RECORD", fields=[*STANDARD_COLUMNS[3].fields, added])
    assert [finding.path for finding in standard_columns([*STANDARD_COLUMNS[:3], longer])] == ["ingest.region"]


# The promise


def process_of(schema: dict[str, Any]) -> EventPipeline:
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    made = Contract("drawn", 1, TYPE, frozenset(), validator, RowConverter(schema))
    return EventPipeline(Contracts({"drawn": {1: made}}), Privacy(), 90, "tests")


encode = msgspec.json.Encoder(decimal_format="number").encode


def assert_every_event_is_a_row_that_fits(
    process: EventPipeline, schema: dict[str, Any], table: list[SchemaField], data: st.DataObject
) -> None:
    time_field = "order_date" if "order_date" in schema["properties"] else "timestamp"
    for _ in range(3):
        event = data.draw(schema_strategies.valid(schema)) | {time_field: "2026-11-23T11:59:58Z"}
        row = process(message(encode(event)), NOW)
        assert isinstance(row, Row), row
        assert misfits(row.record("gs://a/b"), table) == []


@given(st.sampled_from(sorted(event_types())), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50, deadline=None)
def test_valid_events_of_own_contracts_fit_their_tables(name: str, data: st.DataObject) -> None:
    schema = json.loads((FOLDER / f"{name}.v1.json").read_text())
    if name == "user_activity":
        schema["properties"]["ip_address"] = {"type": "string", "enum": ["203.0.113.7", "2001:db8::1"]}
    process = EventPipeline(Contracts.load(), Privacy(), 90, "tests")
    assert_every_event_is_a_row_that_fits(process, schema, declared_columns(event_types()[name].table), data)


COLUMN_TYPES = ["STRING", "STRING(5)", "INT64", "NUMERIC", "NUMERIC(5, 2)", "NUMERIC(38, 9)", "NUMERIC(20)", "BOOL"]


@st.composite
def column(draw: st.DrawFn, name: str, schema: dict[str, Any]) -> str:
    """A column for a property: most often the one that it needs."""
    not_null = draw(st.sampled_from(["", "", " NOT NULL"])) if schema["type"] != "array" else ""
    return f"{name} {draw(column_type(schema))}{not_null}"


@st.composite
def column_type(draw: st.DrawFn, schema: dict[str, Any]) -> str:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([*COLUMN_TYPES, "TIMESTAMP", "JSON"]))
    match types[0]:
        case "array":
            return f"ARRAY<{draw(column_type(schema['items']))}>"
        case "object" if "properties" in schema:
            return f"STRUCT<{', '.join(draw(column(name, inner)) for name, inner in schema['properties'].items())}>"
        case "string" if schema.get("format") == "date-time":
            return "TIMESTAMP"
    return draw(st.sampled_from(LIKELY[types[0]]))


LIKELY = {
    "string": ["STRING", "STRING(2)", "STRING(12)"],
    "integer": ["INT64", "NUMERIC", "NUMERIC(20)"],
    "number": ["NUMERIC", "NUMERIC(38, 9)", "NUMERIC(5, 2)", "NUMERIC(4, 1)"],
    "boolean": ["BOOL"],
    "object": ["JSON"],
}


def findings_of(schema: dict[str, Any], table: list[SchemaField]) -> list[ContractFinding]:
    return list(agreement(schema, table, "drawn", TYPE))


@pytest.mark.parametrize("examples", [20, pytest.param(100, marks=pytest.mark.check)])
def test_valid_events_of_a_matching_contract_fit_the_table(examples: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    drawing = given(schema_strategies.objects(schema_strategies.SCHEMAS), st.data())(
        every_valid_event_is_a_row_that_fits
    )
    settings(max_examples=examples, suppress_health_check=checks, deadline=None)(drawing)()


def every_valid_event_is_a_row_that_fits(body: dict[str, Any], data: st.DataObject) -> None:
    schema = contract(body["properties"], *body["required"])
    ddl = ", ".join(data.draw(column(name, inner)) for name, inner in body["properties"].items())
    assume("ARRAY<ARRAY" not in ddl)
    table = columns(ddl)
    assume(findings_of(schema, table) == [])
    assert_every_event_is_a_row_that_fits(process_of(schema), schema, table, data)
