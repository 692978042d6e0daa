"""Rows: a valid event as the columns of its table."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import msgspec

from functions.dead_letter import DeadLetter, Refused, Stage, Violation
from functions.events import Columns
from functions.json_path import item, member
from functions.message import Message

type Schema = Mapping[str, Any]
type Extras = dict[str, Any]
"""Values of unknown fields by their JSON path below the event: `shipping_address.zip`, `items[0].color`, `['a.b']`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """An event on its way into its table.

    Attributes:
        message: The message that brought the event.
        event_type: Its type.
        schema_version: The version of the contract that it passed.
        table: The table of its type.
        columns: All columns but `ingest`, as `insertAll` takes them.
        unknown_fields: How many fields the contract does not know; they are in the column `extras`.
        code_version: The code that made the row.
    """

    message: Message
    event_type: str
    schema_version: int
    table: str
    columns: Columns
    unknown_fields: int
    code_version: str

    def record(self, archive_uri: str) -> dict[str, Any]:
        """The row of its table, as `insertAll` takes it, with its lineage."""
        return {
            **self.columns,
            "ingest": {
                "event_id": self.message.event_id,
                "message_id": self.message.message_id,
                "publish_time": self.message.publish_time.isoformat(),
                "schema_version": self.schema_version,
                "archive_uri": archive_uri,
                "code_version": self.code_version,
            },
        }

    def dead_letter(self, stage: Stage, errors: Sequence[Violation], now: datetime) -> DeadLetter:
        """What becomes of the row where a later stage refuses it."""
        return DeadLetter(
            self.message,
            stage,
            errors,
            now,
            self.code_version,
            self.event_type,
            str(self.schema_version),
        )


class Shape:
    """Turns valid events into columns; made once from a JSON Schema.

    `string` stays text, or becomes an instant where its format is `date-time`; `integer` and `boolean` stay;
    `number` becomes a NUMERIC; objects and arrays are followed, but an object without properties becomes JSON text.
    null is the same as missing.

    Raises:
        ValueError: A property has no column: no type, several, or an array in an array.
    """

    def __init__(self, schema: Schema) -> None:
        self._convert = _struct(schema)

    def columns(self, event: dict[str, Any]) -> tuple[Columns, Extras]:
        """Shape a valid event: its columns, and the fields that the schema does not know.

        Raises:
            Refused: Stage `contract`; a value is valid but no column can hold it (a leap second, the year 0).
        """
        extras: Extras = {}
        columns = self._convert(event, "", extras)
        return columns, extras


type _Leaf = Callable[[Any], Any]
type _Branch = Callable[[Any, str, Extras], Any]


def _struct(schema: Schema) -> _Branch:
    leaves: dict[str, _Leaf] = {}
    branches: dict[str, _Branch] = {}
    for name, property_schema in schema["properties"].items():
        match _type(name, property_schema):
            case "object" if "properties" in property_schema:
                branches[name] = _struct(property_schema)
            case "array":
                branches[name] = _array(name, property_schema["items"])
            case _:
                leaves[name] = _leaf(name, property_schema)

    def convert(value: dict[str, Any], path: str, extras: Extras) -> Columns:
        columns: Columns = {}
        for name, inner in value.items():
            if leaf := leaves.get(name):
                if inner is not None:
                    try:
                        columns[name] = leaf(inner)
                    except _NoInstantError as error:
                        raise _refused(member(path, name), error) from error
            elif branch := branches.get(name):
                if inner is not None:
                    columns[name] = branch(inner, f"{path}.{name}" if path else name, extras)
            else:
                extras[member(path, name)] = _as_json(inner)
        return columns

    return convert


def _array(name: str, schema: Schema) -> _Branch:
    if _type(name, schema) == "object" and "properties" in schema:
        struct = _struct(schema)
        return lambda items, path, extras: [
            struct(value, item(path, index), extras) for index, value in enumerate(items)
        ]
    leaf = _leaf(name, schema)

    def convert(values: list[Any], path: str, _: Extras) -> list[Any]:
        columns = []
        for index, value in enumerate(values):
            try:
                columns.append(leaf(value))
            except _NoInstantError as error:
                raise _refused(item(path, index), error) from error
        return columns

    return convert


def _refused(path: str, error: Exception) -> Refused:
    return Refused(Stage.CONTRACT, [Violation(f"$.{path}", "format", str(error))])


def _leaf(name: str, schema: Schema) -> _Leaf:
    if schema.get("format") == "date-time":
        return _instant
    try:
        return _LEAVES[_type(name, schema)]
    except KeyError as error:
        raise ValueError(f"{name}: there is no column for an {error} here") from None


def _type(name: str, schema: Schema) -> str:
    """The one type of a property's values, but for null."""
    types = schema.get("type", [])
    match [one for one in ([types] if isinstance(types, str) else types) if one != "null"]:
        case [str(one)]:
            return one
    raise ValueError(f"{name}: a column needs one type, this is {types or 'none'}")


class _NoInstantError(ValueError):
    """A date-time that no TIMESTAMP can hold."""


def _instant(text: str) -> datetime:
    """RFC 3339 to UTC; what is finer than a microsecond is cut off, as TIMESTAMP holds no more."""
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _NoInstantError(f'"{text}" is no instant that a TIMESTAMP can hold: {error}') from error


_NUMERIC = Context(prec=38, rounding=ROUND_HALF_UP)
_NUMERIC_SCALE = Decimal("1e-9")
_ZERO = Decimal(0)  # and not 0E-9


def _numeric(value: Decimal | int) -> Decimal:
    """A NUMERIC: 9 decimals, half away from zero, as BigQuery rounds them itself.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types
    """
    return _NUMERIC.quantize(Decimal(value), _NUMERIC_SCALE) or _ZERO


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(_as_json(value)).decode()


_LEAVES: Mapping[str, _Leaf] = {
    "string": str,
    "integer": int,
    "number": _numeric,
    "boolean": bool,
    "object": _json,
}


def _as_json(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any out
    """A value for a JSON column, which holds 64-bit integers and floats: other numbers are kept as text."""
    match value:
        case dict():
            return {key: _as_json(inner) for key, inner in value.items()}
        case list():
            return [_as_json(inner) for inner in value]
        case Decimal():
            number = float(value)
            return number if Decimal(repr(number)) == value else str(value)
        case int() if not -(2**63) <= value < 2**64:
            return str(value)
    return value
