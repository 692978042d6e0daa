"""Checks that every valid event of a contract fits its table.

The rules are those of `functions.core.rows`, which converts the columns, and of BigQuery.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from google.cloud import bigquery

from functions.core.json_path import member
from functions.events import EventType
from functions.names import column_problem
from sluice.contract.finding import Breaks, ContractFinding
from sluice.contract.schema import ANNOTATIONS, Schema, listed, may_be_null, one_type, types

type Columns = Sequence[bigquery.SchemaField]

STANDARD_COLUMNS = (
    bigquery.SchemaField("processed_timestamp", "TIMESTAMP"),
    bigquery.SchemaField("event_date", "DATE"),
    bigquery.SchemaField("extras", "JSON"),
    bigquery.SchemaField(
        "ingest",
        "RECORD",
        fields=(
            bigquery.SchemaField("event_id", "STRING"),
            bigquery.SchemaField("message_id", "STRING"),
            bigquery.SchemaField("publish_time", "TIMESTAMP"),
            bigquery.SchemaField("schema_version", "INTEGER"),
            bigquery.SchemaField("archive_uri", "STRING"),
            bigquery.SchemaField("code_version", "STRING"),
            bigquery.SchemaField("content_digest", "STRING"),
        ),
    ),
)
"""Columns that Sluice itself adds to every row."""

_STANDARD_NAMES = {column.name for column in STANDARD_COLUMNS}

_NARROWING = {
    "const",
    "contains",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "pattern",
    "required",
    "uniqueItems",
}
"""Keywords that restrict values without an effect on their columns."""

_COMBINING = {"allOf", "anyOf", "dependentSchemas", "else", "if", "oneOf", "then"}
_SHAPING = {"items", "properties", "type"}

_CLOSING = {"additionalProperties", "maxProperties", "patternProperties", "propertyNames", "unevaluatedProperties"}
"""Keywords that forbid unknown fields in an object; they are allowed for the object of a JSON column."""

_SQL_TYPES = {"BOOLEAN": "BOOL", "INTEGER": "INT64", "RECORD": "STRUCT"}

_INT64 = (-(2**63), 2**63 - 1)
_NUMERIC_INTEGER_DIGITS, _NUMERIC_SCALE = 29, 9
"""https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types."""


def agreement(schema: Schema, columns: Columns, name: str, event_type: EventType) -> Iterator[ContractFinding]:
    """Yield the places where a valid event of a contract does not fit its table.

    Args:
        schema: One version of the type's contract, a valid JSON Schema.
        columns: The columns of the type's table, as its DDL declares them.
        name: The type's name.
        event_type: Handler of the type.
    """
    if schema.get("$schema", _DIALECT) != _DIALECT:
        yield _rows("$", f"`$schema` must be {_DIALECT}")
    if types(schema) != {"object"} or "properties" not in schema:
        yield _rows("$", 'an event needs `"type": "object"` and `properties`')
        return
    for field in schema["properties"]:
        if field.casefold() in _STANDARD_NAMES:
            yield _rows(member("$", field), "is the name of a column that Sluice fills")
    if _property(schema, "event_type").get("const") != name:
        yield _rows("$.event_type", f'needs `"const": "{name}"`, which selects the contract')
    yield from _time(schema, event_type.time_field)
    yield from _keywords("$", schema)
    own = [column for column in columns if column.name.casefold() not in _STANDARD_NAMES]
    yield from _members("$", schema, own)


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _property(schema: Schema, name: str) -> Schema:
    field_schema = schema["properties"].get(name)
    return field_schema if isinstance(field_schema, dict) else {}


def standard_columns(columns: Columns) -> Iterator[ContractFinding]:
    """Yield the standard columns that a table lacks or declares incompatibly."""
    yield from _standard("", STANDARD_COLUMNS, columns)


def column_names(columns: Columns, path: str = "") -> Iterator[ContractFinding]:
    """Yield the columns with names that BigQuery rejects."""
    seen: set[str] = set()
    for column in columns:
        yield from _name(f"{path}{column.name}", column.name, seen)
        yield from column_names(column.fields, f"{path}{column.name}.")


def _standard(path: str, standards: Columns, columns: Columns) -> Iterator[ContractFinding]:
    others = {column.name: column for column in columns}
    for standard in standards:
        name = f"{path}{standard.name}"
        column = others.pop(standard.name, None)
        if column is None or column.field_type != standard.field_type or column.mode == "REPEATED":
            yield _rows(name, f"every table needs this column, of type {_type(standard)}")
        elif column.name == "extras" and column.mode == "REQUIRED":
            yield _rows(name, "is NULL for an event without unknown fields, but the column is NOT NULL")
        elif column.max_length is not None:
            yield _rows(name, "must have no limit: its values are not part of the contract")
        else:
            yield from _standard(f"{name}.", standard.fields, column.fields)
    if path:
        for name, column in others.items():
            if column.mode == "REQUIRED":
                yield _rows(f"{path}{name}", "is NOT NULL, but nothing fills it")


def _time(schema: Schema, time_field: str) -> Iterator[ContractFinding]:
    path = member("$", time_field)
    field = _property(schema, time_field)
    if types(field) != {"string"} or field.get("format") != "date-time":
        yield _rows(path, "is the time of the event, so it must be a string of format date-time that is not null")
    if time_field not in schema.get("required", ()):
        yield _rows(path, "is the time of the event, so it must be required")


def _keywords(path: str, schema: Schema) -> Iterator[ContractFinding]:
    """Check keywords beside types and bounds: those that `functions.core.rows` does not follow are findings."""
    is_struct = "properties" in schema
    for keyword, value in schema.items():
        if keyword in _CLOSING:
            if value is False or (is_struct and value not in (True, {})):
                yield ContractFinding(
                    path,
                    f"`{keyword}` rejects fields that a newer producer adds; without it, `extras` keeps them",
                    Breaks.PRODUCERS,
                )
        elif keyword not in ANNOTATIONS | _NARROWING | _COMBINING | _SHAPING:
            yield _not_understood(path, keyword)
    for keyword, branch in _branches(schema):
        yield from _branch(path, keyword, branch, schema)


def _branches(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Yield the subschemas that also apply to a value, each with its keyword."""
    for keyword in sorted(_COMBINING & schema.keys()):
        value = schema[keyword]
        branches = value if isinstance(value, list) else value.values() if keyword == "dependentSchemas" else [value]
        yield from ((keyword, branch) for branch in branches)


def _branch(path: str, keyword: str, branch: Any, outer: Schema) -> Iterator[ContractFinding]:  # noqa: ANN401 - JSON
    """Check that subschemas in allOf, anyOf or if declare no new properties, as these have no columns."""
    if isinstance(branch, bool):
        return
    for inner in branch.keys() - ANNOTATIONS - _NARROWING - _COMBINING - _SHAPING:
        yield _not_understood(path, f"{keyword}: {inner}")
    if "properties" in branch and "properties" in outer:
        for name, schema in branch["properties"].items():
            if name in outer["properties"]:
                yield from _branch(member(path, name), keyword, schema, outer["properties"][name])
            else:
                yield _rows(member(path, name), f"is only in `{keyword}`: the field has no column")
    if "items" in branch and "items" in outer:
        yield from _branch(f"{path}[*]", keyword, branch["items"], outer["items"])
    for deeper, schema in _branches(branch):
        yield from _branch(path, f"{keyword}: {deeper}", schema, outer)


def _not_understood(path: str, keyword: str) -> ContractFinding:
    return _rows(path, f"`{keyword}` is not supported by this check nor by the row conversion; use another keyword")


def _members(path: str, schema: Schema, columns: Columns) -> Iterator[ContractFinding]:
    """Check the properties of an object against the columns, or the fields of a STRUCT, that they fill."""
    properties: Mapping[str, Any] = schema["properties"]
    required = set(schema.get("required", ()))
    by_name = {column.name.casefold(): column for column in columns}
    seen: set[str] = set()
    for name, inner in properties.items():
        place = member(path, name)
        if not isinstance(inner, dict):
            yield _rows(place, "a column needs one type, but this schema allows any value or none")
            continue
        yield from _name(place, name, seen)
        yield from _value(place, inner)
        if (column := by_name.get(name.casefold())) is None:
            yield _rows(place, "has no column with its name")
        else:
            yield from _fit(place, inner, column)
    for name in sorted(required - properties.keys()):
        yield _rows(member(path, name), "is required, but not a property: it has no column")
    given = {name.casefold(): name for name in properties}
    for column in columns:
        if column.mode == "REQUIRED":
            filled_by = given.get(column.name.casefold())
            if filled_by is None:
                yield _rows(member(path, column.name), "the column is NOT NULL, but no property fills it")
            elif filled_by not in required:
                yield _rows(member(path, filled_by), "the column is NOT NULL, but the property is not required")


def _name(path: str, name: str, seen: set[str]) -> Iterator[ContractFinding]:
    folded = name.casefold()
    if folded in seen:
        yield _rows(path, "differs from another field only by case, but names in BigQuery are case-insensitive")
    seen.add(folded)
    if problem := column_problem(name):
        yield _rows(path, problem)


def _value(path: str, schema: Schema) -> Iterator[ContractFinding]:
    """Check the rules for every column: one type, no null in arrays, bounds."""
    yield from _keywords(path, schema)
    if schema.get("format") == "date-time" and one_type(schema) != "string":
        yield _rows(path, "the format date-time needs the type string")
    match one_type(schema):
        case None:
            yield _rows(
                path, f"a column needs one type, but this schema allows {', '.join(sorted(types(schema))) or 'none'}"
            )
        case "string" if _longest(schema) is None:
            yield _rows(path, "a string needs `maxLength`, `enum` or `const`")
        case "integer" | "number" if None in _range(schema):
            yield _rows(path, "a number needs `minimum` and `maximum`, `enum` or `const`")
        case "array":
            yield from _array(path, schema)


def _array(path: str, schema: Schema) -> Iterator[ContractFinding]:
    if "maxItems" not in schema:
        yield _rows(path, "an array needs `maxItems`")
    items = schema.get("items")
    if not isinstance(items, dict):
        yield _rows(path, "an array needs `items`, which defines the type of its column")
        return
    if one_type(items) == "array":
        yield _rows(f"{path}[*]", "an array in an array is not supported; put it into an object")
    elif may_be_null(items):
        yield _rows(f"{path}[*]", "arrays of BigQuery cannot contain NULL")
    yield from _value(f"{path}[*]", items)


def _fit(path: str, schema: Schema, column: bigquery.SchemaField) -> Iterator[ContractFinding]:
    """Check that a column can store every value of a property."""
    if one_type(schema) == "array":
        if column.mode != "REPEATED":
            yield _rows(path, f"an array, but the column is not an ARRAY: {_type(column)}")
        elif isinstance(items := schema.get("items"), dict):
            yield from _fit_one(f"{path}[*]", items, column)
        return
    if column.mode == "REPEATED":
        yield _rows(path, f"one value, but the column is an ARRAY<{_type(column)}>")
    elif column.mode == "REQUIRED" and may_be_null(schema):
        yield _rows(path, "may be null, but the column is NOT NULL")
    yield from _fit_one(path, schema, column)


def _fit_one(path: str, schema: Schema, column: bigquery.SchemaField) -> Iterator[ContractFinding]:
    fitting = _fitting(schema)
    if not fitting:
        return
    if column.field_type not in fitting:
        wanted = " or ".join(_SQL_TYPES.get(field_type, field_type) for field_type in fitting)
        yield _rows(path, f"becomes {wanted}, but the column is {_type(column)}")
        return
    match column.field_type:
        case "RECORD":
            yield from _members(path, schema, column.fields)
        case "STRING":
            if column.max_length is not None and (_longest(schema) or 0) > column.max_length:
                yield _rows(path, f"may have {_longest(schema)} characters, but the column is {_type(column)}")
        case "TIMESTAMP":
            for value in listed(schema) or ():
                if isinstance(value, str) and not _is_instant(value):
                    yield _rows(path, f'"{value}" is not a time that a TIMESTAMP can store')
        case "INTEGER":
            low, high = _range(schema)
            if (low is not None and low < _INT64[0]) or (high is not None and high > _INT64[1]):
                yield _rows(path, f"{low} to {high} exceeds the range of INT64, {_INT64[0]} to {_INT64[1]}")
        case "NUMERIC":
            yield from _numeric(path, schema, column)


def _fitting(schema: Schema) -> tuple[str, ...]:
    """Return the column types, by the API's names, that `functions.core.rows` converts a value to; none for arrays."""
    match one_type(schema):
        case "string":
            return ("TIMESTAMP",) if schema.get("format") == "date-time" else ("STRING",)
        case "integer":
            return "INTEGER", "NUMERIC"
        case "number":
            return ("NUMERIC",)
        case "boolean":
            return ("BOOLEAN",)
        case "object":
            return ("RECORD",) if "properties" in schema else ("JSON",)
    return ()


def _numeric(path: str, schema: Schema, column: bigquery.SchemaField) -> Iterator[ContractFinding]:
    """Check that a NUMERIC of any precision and scale can store every number, rounded to its scale."""
    scale = _NUMERIC_SCALE if column.precision is None else column.scale or 0
    digits = _NUMERIC_INTEGER_DIGITS if column.precision is None else column.precision - scale
    for bound in _range(schema):
        if bound is None:
            continue
        # The validator compares as doubles, and lets pass what rounds to the bound.
        exact = one_type(schema) == "integer" or listed(schema) is not None
        most = abs(bound) if exact else Decimal(repr(math.nextafter(abs(float(bound)), math.inf)))
        if most >= 10**digits or _rounded(most, scale) >= 10**digits:
            yield _rows(path, f"{bound} may exceed the {digits} integer digits of {_type(column)}")
    step = Decimal(1).scaleb(-scale)
    if scale < _NUMERIC_SCALE and one_type(schema) == "number":
        steps = listed(schema) or [schema.get("multipleOf")]
        if not all(_is_number(value) and _EXACT.remainder(Decimal(str(value)), step) == 0 for value in steps):
            yield _rows(path, f'{_type(column)} would round it: `"multipleOf": {step}`, or use a NUMERIC without scale')


def _rounded(value: Decimal, scale: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _EXACT)


_EXACT = Context(prec=400)  # a double has 309 digits before its point at most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_instant(text: str) -> bool:
    try:
        datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def _longest(schema: Schema) -> int | None:
    """Return the maximum length of a schema's strings in characters; None without a bound."""
    values = listed(schema)
    if values is not None:
        return max((len(value) for value in values if isinstance(value, str)), default=0)
    length = schema.get("maxLength")
    return None if length is None else int(length)


def _range(schema: Schema) -> tuple[Decimal | None, Decimal | None]:
    """Return the minimum and the maximum number of a schema; None without a bound."""
    values = listed(schema)
    if values is not None:
        numbers = [Decimal(str(value)) for value in values if _is_number(value)]
        return min(numbers, default=Decimal(0)), max(numbers, default=Decimal(0))
    lows = [Decimal(str(schema[key])) for key in ("minimum", "exclusiveMinimum") if key in schema]
    highs = [Decimal(str(schema[key])) for key in ("maximum", "exclusiveMaximum") if key in schema]
    return max(lows, default=None), min(highs, default=None)


def _type(column: bigquery.SchemaField) -> str:
    name = _SQL_TYPES.get(column.field_type, column.field_type)
    limits = (column.max_length,) if column.precision is None else (column.precision, column.scale or 0)
    return name if limits == (None,) else f"{name}({', '.join(map(str, limits))})"


def _rows(path: str, problem: str) -> ContractFinding:
    return ContractFinding(path, problem, Breaks.ROWS)
