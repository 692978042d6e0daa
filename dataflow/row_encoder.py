"""Encodes rows for the Storage Write API: from the JSON that `insertAll` takes, to protocol buffers of their table."""

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from google.cloud.bigquery_storage_v1.types import TableFieldSchema, TableSchema
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import EncodeError

from functions.core.dead_letters import Violation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)

_UNKNOWN_FIELD = "Object contains unknown field"
_MISSING_FIELD = "Object missing required field"
"""Beginnings of messages of msgspec, which has one exception for all."""
_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

type _Convert = Callable[[Any], Any]


def _microseconds(value: datetime) -> int:
    """Return the microseconds since 1970; a time without a zone is UTC, as for `insertAll`."""
    try:
        since = value - _EPOCH
    except TypeError:
        since = value.replace(tzinfo=UTC) - _EPOCH
    return since // _MICROSECOND


def _days(value: date) -> int:
    return value.toordinal() - _FIRST_DAY


def _digits(value: str | float) -> str:
    return value if isinstance(value, str) else format(Decimal(repr(value)), "f")


class _Kind(msgspec.Struct, frozen=True):
    """The encoding of values of one column type.

    Attributes:
        json: The type of the JSON value.
        proto: The type of the field.
        convert: Makes the field's value of the JSON value; None: they are equal.
    """

    json: Any
    proto: "FieldDescriptorProto.Type.ValueType"
    convert: _Convert | None = None


_Type = TableFieldSchema.Type
_TEXT = _Kind(str, FieldDescriptorProto.TYPE_STRING)
_NUMBER = _Kind(str | int | float, FieldDescriptorProto.TYPE_STRING, _digits)
_KINDS: Mapping[int, _Kind] = {
    _Type.STRING: _TEXT,
    _Type.JSON: _TEXT,
    _Type.GEOGRAPHY: _TEXT,
    _Type.DATETIME: _TEXT,
    _Type.TIME: _TEXT,
    _Type.INTERVAL: _TEXT,
    _Type.INT64: _Kind(_INT64, FieldDescriptorProto.TYPE_INT64),
    _Type.DOUBLE: _Kind(float, FieldDescriptorProto.TYPE_DOUBLE),
    _Type.BOOL: _Kind(bool, FieldDescriptorProto.TYPE_BOOL),
    _Type.BYTES: _Kind(bytes, FieldDescriptorProto.TYPE_BYTES),
    _Type.NUMERIC: _NUMBER,
    _Type.BIGNUMERIC: _NUMBER,
    _Type.TIMESTAMP: _Kind(datetime, FieldDescriptorProto.TYPE_INT64, _microseconds),
    _Type.DATE: _Kind(date, FieldDescriptorProto.TYPE_INT32, _days),
}
"""The preferred types of https://cloud.google.com/bigquery/docs/supported-data-types.

A column of another type (RANGE) cannot be written, nor one whose name is none of a field of a protocol buffer
(https://cloud.google.com/bigquery/docs/schemas#flexible-column-names); for a row without it that is no problem.
"""


class UnknownColumn(ValueError):
    """The table lacks a column of a row. The text has the column's path."""


class InvalidRow(ValueError):
    """A table cannot hold a row.

    Attributes:
        violation: The reason, which quotes no value.
    """

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.path)
        self.violation = violation


class RowEncoder:
    """Encodes the rows of a table.

    Args:
        schema: The table's schema, as BigQuery reports it.

    Attributes:
        descriptor: Describes the encoded rows to BigQuery.
    """

    def __init__(self, schema: TableSchema) -> None:
        fields = list(schema.fields)
        self.descriptor = _descriptor("Row", fields)
        row, convert = _struct(fields)
        self._decode = msgspec.json.Decoder(row, strict=False).decode
        self._convert = convert
        self._message = _message_class(self.descriptor)

    def encode(self, columns: Mapping[str, Any] | msgspec.Raw) -> bytes:
        """Return a row as a serialized message.

        Args:
            columns: JSON values by column name, or that JSON itself.

        Raises:
            UnknownColumn: The table lacks a column of the row.
            InvalidRow: A value is missing, or is not of its column's type.
        """
        json = columns if isinstance(columns, msgspec.Raw) else msgspec.json.encode(columns)
        try:
            row: bytes = self._message(**self._convert(self._decode(json))).SerializeToString()
        except msgspec.ValidationError as error:
            path, text = _split(str(error))
            if text.startswith(_UNKNOWN_FIELD):
                raise UnknownColumn(path.removeprefix("$.")) from None
            raise InvalidRow(Violation(path, "invalid", text)) from None
        except (EncodeError, ValueError):  # a lone surrogate is no UTF-8
            raise InvalidRow(Violation("$", "invalid", "the row cannot be encoded")) from None
        return row


def _split(text: str) -> tuple[str, str]:
    """Return the path and the rest of a message of msgspec: "Expected `int`, got `str` - at `$.items[0].price`"."""
    rest, _, path = text.partition(" - at ")
    path = path.strip("`") or "$"
    if rest.startswith((_UNKNOWN_FIELD, _MISSING_FIELD)):
        path = f"{path}.{rest.split('`')[1]}"
    return path, rest


def _struct(fields: Iterable[TableFieldSchema]) -> tuple[type[msgspec.Struct], Callable[[Any], dict[str, Any]]]:
    """Return the type of the JSON of a row or STRUCT, and what makes the arguments of its message."""
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    converters: list[tuple[str, _Convert]] = []
    for field in filter(_has_field_name, fields):
        json: Any
        convert: _Convert | None
        if field.type_ == _Type.STRUCT:
            json, convert = _struct(field.fields)
        elif field.type_ in _KINDS:
            json, convert = _KINDS[field.type_].json, _KINDS[field.type_].convert
        else:
            continue
        if field.mode == TableFieldSchema.Mode.REPEATED:
            members.append((field.name, list[json], msgspec.field(default_factory=list)))
            convert = functools.partial(_convert_all, convert) if convert else None
        elif field.mode == TableFieldSchema.Mode.REQUIRED:
            members.append((field.name, json))
        else:
            members.append((field.name, json | None, None))
        if convert:
            converters.append((field.name, convert))

    def arguments(struct: msgspec.Struct) -> dict[str, Any]:
        values = msgspec.structs.asdict(struct)
        for name, convert in converters:
            value = values[name]
            if value is not None:
                values[name] = convert(value)
        return values

    struct = msgspec.defstruct("Row", members, kw_only=True, forbid_unknown_fields=True, gc=False)
    return struct, arguments


def _has_field_name(field: TableFieldSchema) -> bool:
    """Return whether a column is named as a field of a protocol buffer may be."""
    return field.name.isascii() and field.name.isidentifier()


def _convert_all(convert: _Convert, values: list[Any]) -> list[Any]:
    return [convert(value) for value in values]


_LABELS = {
    TableFieldSchema.Mode.REQUIRED: FieldDescriptorProto.LABEL_REQUIRED,
    TableFieldSchema.Mode.REPEATED: FieldDescriptorProto.LABEL_REPEATED,
}


def _descriptor(name: str, fields: Iterable[TableFieldSchema]) -> DescriptorProto:
    descriptor = DescriptorProto(name=name)
    for number, field in enumerate(filter(_has_field_name, fields), 1):
        label = _LABELS.get(field.mode, FieldDescriptorProto.LABEL_OPTIONAL)
        if field.type_ == _Type.STRUCT:
            nested = _descriptor(f"{field.name}_struct_{number}", field.fields)
            descriptor.nested_type.append(nested)
            descriptor.field.add(
                name=field.name,
                number=number,
                label=label,
                type=FieldDescriptorProto.TYPE_MESSAGE,
                type_name=nested.name,
            )
        elif field.type_ in _KINDS:
            descriptor.field.add(name=field.name, number=number, label=label, type=_KINDS[field.type_].proto)
    return descriptor


def _message_class(descriptor: DescriptorProto) -> Any:
    """Return the class of the messages that a descriptor describes."""
    file = FileDescriptorProto(name="row.proto", syntax="proto2", message_type=[descriptor])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(descriptor.name))
