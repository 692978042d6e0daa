"""Rows and dead letters that batch mode has archived, and that wait in load files until a load job has ended."""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from google.cloud.storage import Client as StorageClient

from functions.archive import layout
from functions.archive.reader import ObjectNotFound, UnreadableObject
from functions.drain.load_records import load_records
from functions.drain.pending_loads import PendingLoad, pending_loads
from functions.settings import Settings
from functions.tables import Tables

_READERS = 8
"""Number of threads; below the ten connections that a client keeps."""


@dataclasses.dataclass(frozen=True, slots=True)
class PendingRecord:
    """A row or a dead letter of an event in a load file.

    Attributes:
        table: `DATASET.TABLE`, into which it is loaded.
        message_id: Pub/Sub's id of the message that brought it.
        processed_at: Time at which Sluice processed or rejected it.
        archive_uri: Object with the raw bytes.
        load_uri: Address of the load file.
        job_id: Id of the load job; None if the file is in none yet.
        paused_until: Time of the next attempt, if earlier ones have failed.
    """

    table: str
    message_id: str
    processed_at: datetime
    archive_uri: str
    load_uri: str
    job_id: str | None
    paused_until: datetime | None


def pending_records(event_id: str, storage: StorageClient, settings: Settings) -> tuple[list[PendingRecord], list[str]]:
    """Return the records of an event in load files, and the reasons why load files cannot be read.

    Read them before the tables: a record of a file that is gone by then is in its table.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected a request or did not answer.
        msgspec.DecodeError: The ledger is none.
    """
    bucket, table = storage.bucket(settings.archive_bucket), Tables(settings).live
    records, problems = list[PendingRecord](), list[str]()

    def search(load: PendingLoad, name: str) -> None:
        uri = layout.address(settings.archive_bucket, name)
        try:
            records.extend(
                PendingRecord(table(load.table), message_id, time, archive_uri, uri, load.job_id, load.paused_until)
                for other, message_id, archive_uri, time in load_records(bucket, name)
                if other == event_id
            )
        except UnreadableObject as error:
            problems.append(f"{uri}: the load file cannot be read: {error}")
        except ObjectNotFound:
            return

    with ThreadPoolExecutor(_READERS) as threads:
        for load in pending_loads(bucket, settings.flush_timeout):
            list(threads.map(functools.partial(search, load), (file.name for file in load.files)))
    return sorted(records, key=lambda record: record.processed_at), sorted(problems)
