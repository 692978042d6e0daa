"""Sizes of the benchmark's events as rows, by the types of their columns; they do not depend on the clock."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from google.cloud.bigquery import SchemaField

from benchmarks.events import payloads
from functions.archive import layout
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.schema.ddl import declared_table
from functions.schema.definitions import Kind, definitions
from functions.settings import Settings
from functions.system import utc_now
from sluice.cost.measured import Sizes

_SETTINGS = Settings(archive_bucket="archive-of-a-project", google_cloud_project="project", code_version="00042-abc")

URI = layout.address(
    "archive-of-a-project", layout.object_name(datetime(2026, 11, 25, 12, tzinfo=UTC), "0123456789ab", 1)
)

_BYTES = {
    "BOOLEAN": 1, "BOOL": 1, "DATE": 8,
    "FLOAT": 8, "FLOAT64": 8, "INTEGER": 8, "INT64": 8, "NUMERIC": 16, "TIMESTAMP": 8,
}  # fmt: skip
"""Bytes by type (https://cloud.google.com/bigquery/pricing#data-size-calculation); a NULL has none."""

RECONCILED = (
    "event_date", "processed_timestamp", "ingest.event_id", "ingest.message_id", "ingest.archive_uri",
    "ingest.publish_time", "ingest.schema_version", "ingest.content_digest",
)  # fmt: skip
"""Columns that `functions/reconcile/records.py` reads of the rows of the day whose hour is compared."""

MERGED = ("event_date", "processed_timestamp", "ingest.event_id", "ingest.message_id", "ingest.archive_uri")
"""Columns of the historical tables that `sql/maintenance/keep_history.sql` reads."""

ADDED = (
    "browser",
    "os",
    "device",
    "is_bot",
    "item_count",
    "items_total",
    "processed_timestamp",
    "event_date",
    "ingest",
)
"""Columns that a producer did not send."""


def measure() -> Sizes:
    """Return the mean sizes of the mixed events that become rows."""
    process = EventPipeline.from_settings(_SETTINGS)
    rows = []
    for number, (data, is_bad) in enumerate(payloads("mixed")):
        if not is_bad:
            sent = Message(data, {"event_id": f"{number:036d}"}, f"{number:017d}", utc_now())
            outcome = process(sent, utc_now())
            if isinstance(outcome, Row):
                rows.append((outcome.table, bytes(outcome.encoded(URI)), len(outcome.insert_id)))
    schemas = {
        table.table_id: table.schema
        for definition in definitions("project", _SETTINGS)
        if definition.kind is Kind.TABLE and definition.name.startswith(f"{_SETTINGS.dataset}.")
        for table in [declared_table(definition.ddl)]
    }
    decoded = [(schemas[table], msgspec.json.decode(row)) for table, row, _ in rows]

    def mean(only: Collection[str] | None) -> float:
        return statistics.fmean(logical_bytes(schema, row, only) for schema, row in decoded)

    return Sizes(
        row=mean(None),
        lineage=mean(ADDED),
        reconciled=mean(RECONCILED),
        merged=mean(MERGED),
        json=statistics.fmean(len(row) + insert_id + len('{"insertId":"","json":},') for _, row, insert_id in rows),
    )


def logical_bytes(
    schema: Sequence[SchemaField], row: Mapping[str, Any], only: Collection[str] | None = None, path: str = ""
) -> float:
    """Return the bytes that BigQuery counts for a row.

    Args:
        schema: Columns of the table.
        row: The row, as insertAll takes it.
        only: Count these columns only, a field of a STRUCT as `struct.field`; None for all.
        path: Prefix of the columns' names.
    """
    total = 0.0
    for field in schema:
        name = f"{path}{field.name}"
        value = row.get(field.name)
        chosen = None if only is None or name in only else only
        for element in value if isinstance(value, list) else [value]:
            if element is None:
                continue
            if field.fields:
                total += logical_bytes(field.fields, element, chosen, f"{name}.")
            elif chosen is None:
                total += _BYTES.get(field.field_type) or _text(element) + (2 if field.field_type == "STRING" else 0)
    return total


def _text(value: Any) -> int:  # noqa: ANN401 - of any column
    return len(value.encode() if isinstance(value, str) else msgspec.json.encode(value))
