"""Reads load files: the events of their rows and dead letters, and the archive objects that have their raw bytes."""

import gzip
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from google.cloud.storage import Bucket
from msgspec import Meta

from functions.archive.reader import UnreadableObject, decoding

type _Time = Annotated[datetime, Meta(tz=True)]


class LoadRecord(NamedTuple):
    """A row or a dead letter of a load file.

    Attributes:
        event_id: Id of its event.
        message_id: Pub/Sub's id of the message that brought it.
        archive_uri: Archive object with the raw bytes.
        time: Time at which Sluice processed or rejected it.
    """

    event_id: str
    message_id: str
    archive_uri: str
    time: datetime


class _Lineage(msgspec.Struct):
    """The column `ingest` of a row."""

    event_id: str
    message_id: str
    archive_uri: str


class _Line(msgspec.Struct):
    """The columns of a row, or of a dead letter, that say where its event is, and when it was processed."""

    ingest: _Lineage | None = None
    processed_timestamp: _Time | None = None
    event_id: str | None = None
    message_id: str | None = None
    archive_uri: str | None = None
    failed_at: _Time | None = None


_decode_lines = msgspec.json.Decoder(_Line).decode_lines


def load_records(bucket: Bucket, name: str) -> Iterator[LoadRecord]:
    """Yield the rows or dead letters of a load file.

    Args:
        bucket: The archive's bucket.
        name: Name of the file.

    Raises:
        ObjectNotFound: It has been loaded and deleted.
        UnreadableObject: It is not as `drain` wrote it.
        google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
    """
    with decoding():
        lines = _decode_lines(gzip.decompress(bucket.blob(name).download_as_bytes()))
    for line in lines:
        where, time = line.ingest or line, line.processed_timestamp or line.failed_at
        if where.archive_uri is None or where.event_id is None or where.message_id is None or time is None:
            raise UnreadableObject(f"{name}: a row without its archive object, its event or its time")
        yield LoadRecord(where.event_id, where.message_id, where.archive_uri, time)
