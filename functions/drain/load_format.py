"""The format of load files: rows as the JSON that load jobs take, one object per line."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from google.cloud.bigquery import SchemaField

type Record = dict[str, Any]

type _Embed = Callable[[Any], Any]

_encode_lines = msgspec.json.Encoder().encode_lines


class LoadFormat:
    """Writes the rows of a table as load jobs take them.

    `insertAll` takes the value of a JSON column as text; in a load file it has to be the value itself. BYTES as base64,
    NUMERIC as text and TIMESTAMP as RFC 3339 are the same in both
    (https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-json#details_of_loading_json_data).

    Args:
        schema: Columns of the table.
    """

    def __init__(self, schema: Sequence[SchemaField]) -> None:
        self._embed = _embed_fields(schema) or _as_it_is

    def __call__(self, records: Iterable[Record]) -> bytes:
        """Return the file of records in the format of `insertAll`."""
        return _encode_lines([self._embed(record) for record in records])


def _as_it_is(record: Record) -> Record:
    return record


def _embed_fields(fields: Sequence[SchemaField]) -> _Embed | None:
    """Return a function that converts a struct; None if no field needs conversion."""
    embeds = {field.name: embed for field in fields if (embed := _embed_field(field))}
    if not embeds:
        return None

    def embed_struct(struct: Record) -> Record:
        changed = {name: embed(struct[name]) for name, embed in embeds.items() if struct.get(name) is not None}
        return {**struct, **changed}

    return embed_struct


def _embed_field(field: SchemaField) -> _Embed | None:
    embed = _json if field.field_type == "JSON" else _embed_fields(field.fields)
    if embed and field.mode == "REPEATED":
        return lambda values: [embed(value) for value in values]
    return embed


def _json(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())
