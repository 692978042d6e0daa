"""The fields of a contract in words: what each means, what is allowed, and the column that it becomes."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from google.cloud import bigquery

from functions.core.json_path import member
from sluice.contract.example import example
from sluice.contract.schema import Schema, listed, types

_SQL_TYPES = {"BOOLEAN": "BOOL", "INTEGER": "INT64", "RECORD": "STRUCT", "FLOAT": "FLOAT64"}

_LIMITS = (("minLength", "maxLength", "characters"), ("minItems", "maxItems", "items"), ("minimum", "maximum", ""))


class Field(msgspec.Struct, frozen=True):
    """A field of a contract.

    Attributes:
        path: Its JSON path: `$.items[*].price`.
        type: Type of its value: `string`, or `integer or null`.
        is_required: Whether the object around it must have it.
        allowed: Allowed values, in words; empty if there is no limit.
        sample: A valid value; None of an object or an array.
        description: Its meaning; empty if the contract does not say it.
        column: Path of the column that it becomes; None without a column.
        column_type: Type of that column.
        column_description: Description of that column.
    """

    path: str
    type: str
    is_required: bool
    allowed: str
    sample: Any
    description: str
    column: str | None
    column_type: str | None
    column_description: str | None


def fields(schema: Schema, columns: Sequence[bigquery.SchemaField]) -> list[Field]:
    """Return the fields of a contract, each object before its members.

    Args:
        schema: The contract.
        columns: Columns of its table.
    """
    return list(_members(schema, columns, "$", ""))


def _members(schema: Schema, columns: Sequence[bigquery.SchemaField], path: str, parent: str) -> Iterator[Field]:
    by_name = {column.name.casefold(): column for column in columns}
    properties = schema.get("properties", {})
    for name, inner in properties.items():
        column = by_name.get(name.casefold())
        yield _field(inner, column, member(path, name), parent, is_required=name in schema.get("required", ()))
        place, shape = member(path, name), inner
        if "items" in inner:
            place, shape = f"{place}[*]", inner["items"]
        inner_columns = column.fields if column else ()
        yield from _members(shape, inner_columns, place, f"{parent}{name}.")


def _field(schema: Schema, column: bigquery.SchemaField | None, path: str, parent: str, *, is_required: bool) -> Field:
    is_leaf = not {"object", "array"} & types(schema)
    return Field(
        path=path,
        type=" or ".join(sorted(types(schema), key=lambda name: name == "null")) or "any",
        is_required=is_required,
        allowed=_allowed(schema),
        sample=example(schema, "A-1") if is_leaf else None,
        description=schema.get("description", ""),
        column=f"{parent}{column.name}" if column else None,
        column_type=_column_type(column) if column else None,
        column_description=column.description if column else None,
    )


def _column_type(column: bigquery.SchemaField) -> str:
    kind = _SQL_TYPES.get(column.field_type, column.field_type)
    return {"REPEATED": f"ARRAY of {kind}", "REQUIRED": f"{kind} NOT NULL"}.get(column.mode, kind)


def _allowed(schema: Schema) -> str:
    """Describe the values that a schema allows, besides their type."""
    values = listed(schema)
    if values is not None:
        return ", ".join(str(value) for value in values)
    parts = []
    for lowest, highest, unit in _LIMITS:
        low, high = schema.get(lowest), schema.get(highest)
        if low is not None or high is not None:
            parts.append(f"{_range(low, high)} {unit}".strip())
    parts += [f"format {schema['format']}"] if "format" in schema else []
    parts += [f"pattern {schema['pattern']}"] if "pattern" in schema else []
    for keyword in ("anyOf", "oneOf"):
        branches = [_allowed(branch) for branch in schema.get(keyword, ())]
        parts += [" or ".join(filter(None, branches))] if branches else []
    return ", ".join(filter(None, parts))


def _range(low: Any, high: Any) -> str:  # noqa: ANN401 - numbers
    if high is None:
        return f"at least {low:,}"
    return f"at most {high:,}" if low is None else f"{low:,} to {high:,}"
