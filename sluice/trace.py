"""The lineage of one event: its rows, duplicates, dead letters, pending records, replays, archive objects and bytes."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import Any

import msgspec
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import Envelope
from functions.archive.reader import (
    Archived,
    ArchivedObject,
    ArchiveReader,
    ObjectNotFound,
    UnreadableObject,
    object_at,
)
from functions.core import dead_letters
from functions.names import view_of
from functions.settings import Settings
from functions.sql import query_config, render
from functions.tables import Tables, event_tables
from sluice.pending_records import PendingRecord, pending_records
from sluice.queries import rows_of

_READERS = 8
"""Number of threads; below the ten connections that a client keeps."""

_ROWS = """
SELECT
  '{{ dataset }}' AS dataset, '{{ table }}' AS name, event_date AS day, ingest.message_id AS message_id,
  ingest.publish_time AS publish_time, processed_timestamp AS processed_at,
  CAST(ingest.schema_version AS STRING) AS schema_version, ingest.code_version AS code_version,
  ingest.archive_uri AS archive_uri, CAST(NULL AS STRING) AS stage, CAST(NULL AS STRING) AS fingerprint,
  CAST(NULL AS STRING) AS errors, ingest.content_digest AS content_digest
FROM `{{ dataset }}.{{ table }}`
WHERE ingest.event_id = @event_id
"""

_COLUMNS = "day message_id publish_time processed_at schema_version code_version archive_uri content_digest"

_DEAD_LETTERS = """
SELECT
  '{{ dataset }}', '{{ table }}', DATE(failed_at), message_id, publish_time, failed_at, schema_version, code_version,
  archive_uri, stage, fingerprint, TO_JSON_STRING(errors), CAST(NULL AS STRING)
FROM `{{ dataset }}.{{ table }}`
WHERE event_id = @event_id
"""

_REPLAYS = "SELECT * FROM `{{ tables.replays }}` WHERE event_id = @event_id ORDER BY replayed_at"


@dataclasses.dataclass(frozen=True, slots=True)
class TracedRecord:
    """A row or a dead letter of the event.

    Attributes:
        table: `DATASET.TABLE`.
        day: Day of its partition: the event's date, or the day of the dead letter.
        message_id: Pub/Sub's id of the message that brought it.
        publish_time: Time at which Pub/Sub accepted that message.
        processed_at: Time at which Sluice processed or rejected it.
        schema_version: Contract version that it passed or was checked against.
        code_version: Version of the code that wrote the record.
        archive_uri: Object with the raw bytes.
        content_digest: Digest of a row's content; None of older code.
        shown_by: Views that show a row; none shows a duplicate.
        stage: Stage that rejected a dead letter.
        fingerprint: Fingerprint of a dead letter, the same for the same cause.
        errors: Errors of a dead letter: path, rule and message of each.
    """

    table: str
    day: date
    message_id: str
    publish_time: datetime
    processed_at: datetime
    schema_version: str | None
    code_version: str
    archive_uri: str
    content_digest: str | None = None
    shown_by: Sequence[str] = ()
    stage: str | None = None
    fingerprint: str | None = None
    errors: Sequence[dict[str, str]] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class TracedObject:
    """An archive object and its envelopes of the event.

    Attributes:
        uri: Address of the object.
        envelopes: Envelopes of the event.
        problem: Reason why it could not be read, if so.
    """

    uri: str
    envelopes: Sequence[Envelope] = ()
    problem: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """All records of an event.

    Attributes:
        event_id: The event.
        rows: Rows in the event tables.
        dead_letters: Dead letters in their table.
        pending: Rows and dead letters that batch mode has archived, and not loaded yet.
        replays: Entries of the ledger for the event, oldest first: all columns.
        objects: Archive objects that the records name, or that the search of the day found.
        problems: Reasons why load files cannot be read.
    """

    event_id: str
    rows: Sequence[TracedRecord]
    dead_letters: Sequence[TracedRecord]
    pending: Sequence[PendingRecord]
    replays: Sequence[Mapping[str, Any]]
    objects: Sequence[TracedObject]
    problems: Sequence[str]

    @property
    def is_found(self) -> bool:
        """Return whether there is any record of the event."""
        return bool(self.rows or self.dead_letters or self.pending or self.replays or self.objects)


def trace(
    event_id: str, bigquery_client: bigquery.Client, storage: StorageClient, settings: Settings, day: date | None = None
) -> Trace:
    """Search an event in all tables and load files, and read the archive objects that the records name.

    Args:
        event_id: The event.
        bigquery_client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: Datasets and archive.
        day: Day of arrival in UTC: if no table has the event, the archive of this day is searched.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage rejected a request or did not answer.
        msgspec.DecodeError: The ledger of batch mode is none.
    """
    pending, problems = pending_records(event_id, storage, settings)
    rows, dead_letters = _records(event_id, bigquery_client, settings)
    loaded = {(record.table, record.message_id, record.archive_uri) for record in (*rows, *dead_letters)}
    pending = [record for record in pending if (record.table, record.message_id, record.archive_uri) not in loaded]
    replays = replays_of(event_id, bigquery_client, settings)
    uris = [record.archive_uri for record in (*rows, *dead_letters)]
    uris += [record.archive_uri for record in pending]
    uris += [replay["archive_uri"] for replay in replays if replay["archive_uri"]]
    objects: Iterable[TracedObject] = ()
    if uris:
        with ThreadPoolExecutor(_READERS) as threads:
            named = (object_at(uri, storage) for uri in dict.fromkeys(uris))
            objects = list(threads.map(functools.partial(read_object, event_id), named))
    elif day is not None:
        objects = _search(event_id, ArchiveReader(storage, settings.archive_bucket).of_day(day))
    return Trace(event_id, rows, dead_letters, pending, replays, list(objects), problems)


def replays_of(event_id: str, client: bigquery.Client, settings: Settings) -> list[dict[str, Any]]:
    """Return the ledger's entries for an event, oldest first, with all columns (sql/schema/replays.sql).

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the request or did not answer.
    """
    query = render(_REPLAYS, tables=Tables(settings))
    config = query_config(event_id=("STRING", event_id))
    return [dict(row) for row in rows_of(client, query, config)]


def _records(
    event_id: str, client: bigquery.Client, settings: Settings
) -> tuple[list[TracedRecord], list[TracedRecord]]:
    selects = [
        render(_ROWS, dataset=dataset, table=table)
        for table in event_tables()
        for dataset in (settings.dataset, settings.historical_dataset)
    ]
    selects.append(render(_DEAD_LETTERS, dataset=settings.dataset, table=dead_letters.TABLE))
    config = query_config(event_id=("STRING", event_id))
    records = [dict(row) for row in rows_of(client, "UNION ALL".join(selects), config)]
    records.sort(key=lambda row: (row["dataset"], row["name"], *_rank(row)))
    rows = [row for row in records if row["stage"] is None]
    return (
        [_record(row, shown_by=_views(row, rows, settings)) for row in rows],
        [
            _record(row, stage=row["stage"], fingerprint=row["fingerprint"], errors=msgspec.json.decode(row["errors"]))
            for row in records
            if row["stage"] is not None
        ],
    )


def _record(row: dict[str, Any], **more: Any) -> TracedRecord:  # noqa: ANN401 - the attributes that only some have
    names = _COLUMNS.split()
    return TracedRecord(table=f"{row['dataset']}.{row['name']}", **{name: row[name] for name in names}, **more)


def _rank(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the sort key of the views, which show the last row of a day (sql/views/each/)."""
    return row["day"], row["processed_at"], row["publish_time"], row["message_id"], row["archive_uri"]


def _views(row: dict[str, Any], rows: Iterable[dict[str, Any]], settings: Settings) -> list[str]:
    """Return the views that show a row among its duplicates."""
    same = [other for other in rows if (other["name"], other["day"]) == (row["name"], row["day"])]
    live = [other for other in same if other["dataset"] == settings.dataset]
    views = []
    if live and row is max(live, key=_rank):
        views.append(Tables(settings).live(view_of(row["name"], "deduplicated")))
    if row is max(same, key=_rank):
        views.append(Tables(settings).live(view_of(row["name"], "all")))
    return views


def _search(event_id: str, objects: Iterable[Archived]) -> Iterator[TracedObject]:
    """Yield those of the objects that have an event."""

    def search(archived: Archived) -> list[TracedObject]:
        with contextlib.suppress(ObjectNotFound, UnreadableObject):
            traced = (read_object(event_id, original) for original in archived.originals())
            return [original for original in traced if original.envelopes]
        return []

    with ThreadPoolExecutor(_READERS) as threads:
        yield from itertools.chain.from_iterable(threads.map(search, objects))


def read_object(event_id: str, archived: ArchivedObject) -> TracedObject:
    """Return an archive object with its envelopes of an event."""
    try:
        return TracedObject(archived.uri, archived.envelopes_of(event_id))
    except ObjectNotFound:
        problem = "the object does not exist: it was deleted by its lifecycle or manually"
    except UnreadableObject as error:
        problem = f"the object cannot be read: {error}"
    return TracedObject(archived.uri, problem=problem)
