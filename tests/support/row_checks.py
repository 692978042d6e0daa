"""Whether a row fits its table, by what BigQuery's types can hold."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from decimal import Context, Decimal
from typing import Any

from google.cloud.bigquery import SchemaField

from functions.schema.ddl import declared_table
from functions.schema.definitions import FOLDER, parameters_of
from functions.sql import render
from tests.support.settings import settings


def declared_columns(table: str) -> list[SchemaField]:
    """The columns of a table of `sql/schema/`."""
    ddl = (FOLDER / "schema" / f"{table}.sql").read_text(encoding="utf-8")
    return list(declared_table(render(ddl, **parameters_of("project", settings()))).schema)


def misfits(record: dict[str, Any], columns: Iterable[SchemaField], path: str = "") -> list[str]:
    """The places of a record, as `insertAll` takes it, that a table has no room for."""
    return list(_misfits(record, columns, path))


def _misfits(record: dict[str, Any], columns: Iterable[SchemaField], path: str) -> Iterator[str]:
    by_name = {column.name.casefold(): column for column in columns}
    for name in record:
        if name.casefold() not in by_name:
            yield f"{path}{name}: no column"
    values = {name.casefold(): value for name, value in record.items()}
    for name, column in by_name.items():
        place, value = f"{path}{column.name}", values.get(name)
        if column.mode == "REPEATED":
            if not isinstance(value, list | None) or None in (value or ()):
                yield f"{place}: no array, or a NULL in it"
            else:
                for element in value or ():
                    yield from _misfit(element, column, f"{place}[]")
        elif value is not None:
            yield from _misfit(value, column, place)
        elif column.mode == "REQUIRED":
            yield f"{place}: NULL"


def _misfit(value: Any, column: SchemaField, place: str) -> Iterator[str]:
    if column.field_type == "RECORD":
        if isinstance(value, dict):
            yield from _misfits(value, column.fields, f"{place}.")
        else:
            yield f"{place}: {value!r} is no STRUCT"
    elif not _FITS[column.field_type](value, column):
        yield f"{place}: {value!r} is no {column.field_type}"


def _is_string(value: Any, column: SchemaField) -> bool:
    return isinstance(value, str) and len(value) <= (column.max_length or len(value))


def _is_integer(value: Any, _: SchemaField) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_numeric(value: Any, column: SchemaField) -> bool:
    """Return whether a value is in range once rounded, and unchanged by rounding."""
    if type(value) is not int and not isinstance(value, str):
        return False
    scale = 9 if column.precision is None else column.scale or 0
    digits = 29 if column.precision is None else column.precision - scale
    number = Decimal(value)
    return abs(number) < 10**digits and number == number.quantize(Decimal(1).scaleb(-scale), context=_EXACT)


_EXACT = Context(prec=100)


def _is_timestamp(value: Any, _: SchemaField) -> bool:
    return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() is not None


def _is_base64(value: Any, _: SchemaField) -> bool:
    try:
        return isinstance(value, str) and len(base64.b64decode(value, validate=True)) >= 0
    except ValueError:
        return False


_FITS: dict[str, Callable[[Any, SchemaField], bool]] = {
    "STRING": _is_string,
    "BYTES": _is_base64,
    "INTEGER": _is_integer,
    "NUMERIC": _is_numeric,
    "TIMESTAMP": _is_timestamp,
    "DATE": lambda value, _: isinstance(value, str) and bool(date.fromisoformat(value)),
    "BOOLEAN": lambda value, _: isinstance(value, bool),
    "JSON": lambda value, _: isinstance(value, str) and json.loads(value) is not ...,
}
