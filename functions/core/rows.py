"""Rows: a valid event as the columns of its table."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation
from typing import Any

import msgspec

from functions.core.dead_letters import DeadLetter, EventRejected, Stage, Violation
from functions.core.json_path import from_root
from functions.core.message import Message
from functions.events import Columns

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

type Schema = Mapping[str, Any]


class Extras(dict[str, Any]):
    """Values of unknown fields by their JSON path below the event: `shipping_address.zip`, `items[0].color`, `['a.b']`.

    Attributes:
        rounded_numbers: Number of the event's numbers that NUMERIC has no place for, and that are rounded.
    """

    __slots__ = ("rounded_numbers",)

    def __init__(self) -> None:
        self.rounded_numbers = 0


class _Lineage(msgspec.Struct, gc=False):
    """The column `ingest`."""

    event_id: str
    message_id: str
    publish_time: msgspec.Raw
    schema_version: int
    archive_uri: str
    code_version: str
    content_digest: str


class Row(msgspec.Struct, frozen=True, gc=False):
    """An event as a row of its table.

    Attributes:
        message: The message that brought the event.
        event_type: Its type.
        schema_version: The version of the contract that it passed.
        table: The table of its type.
        content: All columns but `ingest`, as the JSON that `insertAll` takes.
        content_digest: Digest of the event id and the producer's fields: the row's `insertId`.
        unknown_fields: Number of fields that the contract does not know; they are in the column `extras`.
        code_version: The code that made the row.
        rounded_numbers: Number of its numbers that are rounded to the nine decimals of NUMERIC.
    """

    message: Message
    event_type: str
    schema_version: int
    table: str
    content: bytes
    content_digest: str
    unknown_fields: int
    code_version: str
    rounded_numbers: int = 0

    @property
    def insert_id(self) -> str:
        """The id by which BigQuery recognizes a repeated row."""
        return self.content_digest

    @property
    def columns(self) -> Columns:
        """All columns but `ingest`, as `insertAll` takes them; decoded at each use."""
        columns: Columns = msgspec.json.decode(self.content)
        return columns

    def encoded(self, archive_uri: str) -> msgspec.Raw:
        """The row of its table with its lineage, as the JSON that `insertAll` takes."""
        message = self.message
        lineage = _Lineage(
            message.event_id,
            message.message_id,
            msgspec.Raw(_encode(message.publish_time).replace(b'Z"', b'+00:00"')),
            self.schema_version,
            archive_uri,
            self.code_version,
            self.content_digest,
        )
        return msgspec.Raw(b"".join((self.content[:-1], b',"ingest":', _encode(lineage), b"}")))

    def record(self, archive_uri: str) -> dict[str, Any]:
        """The row as `encoded` has it."""
        record: dict[str, Any] = msgspec.json.decode(self.encoded(archive_uri))
        return record

    def dead_letter(self, stage: Stage, errors: Sequence[Violation], now: datetime) -> DeadLetter:
        """Return the dead letter of the row, for a later stage that rejects it."""
        return DeadLetter(
            self.message,
            stage,
            errors,
            now,
            self.code_version,
            self.event_type,
            str(self.schema_version),
        )


class RowConverter:
    """Turns valid events into columns; made once from a JSON Schema.

    `string` stays text, or becomes an instant where its format is `date-time`; `integer` and `boolean` stay;
    `number` becomes a NUMERIC; objects and arrays are followed, but an object without properties becomes JSON text.
    null is the same as missing.

    Raises:
        ValueError: A property has no column: no type, several, or an array in an array.
    """

    def __init__(self, schema: Schema) -> None:
        self._convert = _compile_struct(schema)

    def columns(self, event: dict[str, Any]) -> tuple[Columns, Extras]:
        """Convert a valid event to its columns and the fields that the schema does not know.

        Args:
            event: Becomes the columns. Most of its values stay unchanged.

        Raises:
            EventRejected: Stage `contract`; a value is valid but no column can hold it (a leap second, the year 0).
        """
        extras = Extras()
        self._convert(event, (), extras)
        return event, extras


type _Steps = tuple[str | int, ...]
type _Leaf = Callable[[Any], Any]
type _Branch = Callable[[Any, _Steps, Extras], None]
"""Converts an object or an array in its place, to which these keys and indexes lead."""


def _compile_struct(schema: Schema) -> _Branch:
    leaves: list[tuple[str, _Leaf]] = []
    branches: list[tuple[str, _Branch]] = []
    nullable: list[str] = []
    for name, property_schema in schema["properties"].items():
        if "null" in property_schema.get("type", ()):
            nullable.append(name)
        match _type(name, property_schema):
            case "object" if "properties" in property_schema:
                branches.append((name, _compile_struct(property_schema)))
            case "array":
                if branch := _compile_array(name, property_schema["items"]):
                    branches.append((name, branch))
            case _:
                if leaf := _compile_leaf(name, property_schema):
                    leaves.append((name, leaf))
    properties = frozenset(schema["properties"])

    def convert(struct: dict[str, Any], steps: _Steps, extras: Extras) -> None:
        if not properties.issuperset(struct):
            for name in [name for name in struct if name not in properties]:
                extras[_path((*steps, name))] = _as_json(struct.pop(name))
        for name in nullable:
            if name in struct and struct[name] is None:
                del struct[name]
        for name, leaf in leaves:
            if name in struct:
                try:
                    struct[name] = leaf(struct[name])
                except Inexact:
                    struct[name] = _rounded(struct[name], extras)
                except _NoInstantError as error:
                    raise _rejection((*steps, name), error) from error
        for name, branch in branches:
            if name in struct:
                branch(struct[name], (*steps, name), extras)

    return convert


def _compile_array(name: str, schema: Schema) -> _Branch | None:
    """None for an array whose items stay as they are."""
    if _type(name, schema) == "object" and "properties" in schema:
        struct = _compile_struct(schema)

        def convert_structs(structs: list[dict[str, Any]], steps: _Steps, extras: Extras) -> None:
            for index, value in enumerate(structs):
                struct(value, (*steps, index), extras)

        return convert_structs
    leaf = _compile_leaf(name, schema)
    if leaf is None:
        return None

    def convert(values: list[Any], steps: _Steps, extras: Extras) -> None:
        for index, value in enumerate(values):
            try:
                values[index] = leaf(value)
            except Inexact:
                values[index] = _rounded(value, extras)
            except _NoInstantError as error:
                raise _rejection((*steps, index), error) from error

    return convert


def _path(steps: _Steps) -> str:
    return from_root(steps).removeprefix("$").removeprefix(".")


def _rejection(steps: _Steps, error: Exception) -> EventRejected:
    return EventRejected(Stage.CONTRACT, [Violation(from_root(steps), "format", str(error))])


def _compile_leaf(name: str, schema: Schema) -> _Leaf | None:
    """None for a value that stays as it is."""
    if schema.get("format") == "date-time":
        return _instant
    try:
        return _LEAVES[_type(name, schema)]
    except KeyError as error:
        raise ValueError(f"{name}: there is no column for an {error} here") from None


def _type(name: str, schema: Schema) -> str:
    """The one type of a property's values, but for null."""
    types = schema.get("type", [])
    match [name_of_type for name_of_type in ([types] if isinstance(types, str) else types) if name_of_type != "null"]:
        case [str(name_of_type)]:
            return name_of_type
    raise ValueError(f"{name}: a column needs one type, this is {types or 'none'}")


class _NoInstantError(ValueError):
    """A date-time that no TIMESTAMP can hold."""


def _instant(text: str) -> datetime:
    """RFC 3339 to UTC; what is finer than a microsecond is cut off, as TIMESTAMP holds no more."""
    try:
        moment = datetime.fromisoformat(text.upper())
        return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _NoInstantError(f'"{text}" is no instant that a TIMESTAMP can hold: {error}') from error


_quantize = Context(prec=38, rounding=ROUND_HALF_UP).quantize
_quantize_exactly = Context(prec=38, traps=[InvalidOperation, Inexact]).quantize
_NUMERIC_SCALE = Decimal("1e-9")
_EXACT = 2**53
"""A float holds each integer below it exactly."""

_ZERO = Decimal(0)  # and not 0E-9


def _numeric(value: Decimal | int) -> Decimal:
    """A NUMERIC: 9 decimals.

    Raises:
        Inexact: The value has more.
    """
    return _quantize_exactly(value, _NUMERIC_SCALE) or _ZERO


_FLOAT_ERROR = Decimal("1e-12")
"""Error of a number, relative to it, that a calculation with floats makes: `30.000000000000004` loses nothing."""


def _rounded(value: Decimal, extras: Extras) -> Decimal:
    """A NUMERIC of a value with more than 9 decimals: half away from zero, as BigQuery rounds them itself.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types
    """
    rounded = _quantize(value, _NUMERIC_SCALE) or _ZERO
    if abs(rounded - value) > abs(value) * _FLOAT_ERROR:
        extras.rounded_numbers += 1
    return rounded


def _json(value: dict[str, Any]) -> str:
    return _encode_sorted(_as_json(value)).decode()


_LEAVES: Mapping[str, _Leaf | None] = {
    "string": None,
    "integer": int,
    "number": _numeric,
    "boolean": None,
    "object": _json,
}


def _as_json(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any out
    """Return a value for a JSON column, which holds 64-bit integers and floats: other numbers are kept as text.

    Each number has one spelling: `1.0` and `1e0` are 1.
    """
    match value:
        case dict():
            return {key: _as_json(inner) for key, inner in value.items()}
        case list():
            return [_as_json(inner) for inner in value]
        case Decimal():
            number = float(value)
            if -_EXACT < number < _EXACT and number.is_integer() and value == int(number):
                return int(number)
            return number if Decimal(repr(number)) == value else str(value)
        case int() if not -(2**63) <= value < 2**64:
            return str(value)
    return value
