"""Inserts the rows of a load file that has a bad row: each alone, so that only the bad one becomes a dead letter."""

import collections
import dataclasses
import gzip
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated

import msgspec
from google.api_core.exceptions import NotFound
from google.cloud.storage import Client as StorageClient
from msgspec import Meta

from functions.archive.reader import ObjectNotFound, object_at
from functions.core.dead_letters import Stage
from functions.core.pipeline import EventPipeline
from functions.ingest.batch_writer import Inserts, insert_by_table
from functions.ingest.flush_report import FlushReport, Outcome
from functions.system import SYSTEM, System

logger = logging.getLogger("functions.main")

type _Time = Annotated[datetime, Meta(tz=True)]


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


@dataclasses.dataclass(frozen=True, slots=True)
class RowInserts:
    """Inserts the rows of load files.

    The rows are made again from the archive, at the time at which they were made first. So they are the same, and a
    bad one has the message that its dead letter needs. An event that was erased from the archive meanwhile is no row.

    Attributes:
        storage: Client of the archive's project.
        bucket: Name of the archive's bucket.
        process: Makes rows and dead letters of messages.
        warehouse: Takes them.
        timeout: Seconds that each insert may take, retries included.
        report: Called with the dead letters of an archive object, which were rows before.
        system: The machine.
    """

    storage: StorageClient
    bucket: str
    process: EventPipeline
    warehouse: Inserts
    timeout: float
    report: Callable[[FlushReport], None]
    system: System = SYSTEM

    def __call__(self, name: str) -> None:
        """Insert the rows of a load file; nothing if the file is gone.

        Raises:
            NotDurable: BigQuery did not take all rows, and a retry may succeed.
            UnreadableObject: The archive object of its rows cannot be read.
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected a request or did not answer.
            ApiError: BigQuery rejected the request.
            urllib3.exceptions.HTTPError: BigQuery did not answer in time, or the connection failed.
        """
        try:
            ndjson = gzip.decompress(self.storage.bucket(self.bucket).blob(name).download_as_bytes())
        except NotFound:
            return
        by_object: dict[str, dict[tuple[str, str], datetime]] = collections.defaultdict(dict)
        for line in _decode_lines(ndjson):
            where, time = line.ingest or line, line.processed_timestamp or line.failed_at
            if where.archive_uri is None or where.event_id is None or where.message_id is None or time is None:
                raise ValueError(f"{name}: a row without its archive object, its event or its time")
            by_object[where.archive_uri][where.event_id, where.message_id] = time
        for uri, times in by_object.items():
            report = FlushReport(archive_uri=uri, events=0, message_bytes=0)
            outcomes = list(self._outcomes(uri, times))
            insert_by_table(self.warehouse, outcomes, self.system.now(), self.timeout, report)
            # All others were counted when they were written into the load file.
            if rejected := report.dead_letters[Stage.WAREHOUSE]:
                letters = collections.Counter({str(Stage.WAREHOUSE): rejected})
                self.report(FlushReport(archive_uri=uri, events=0, message_bytes=0, dead_letters=letters))

    def _outcomes(self, uri: str, times: dict[tuple[str, str], datetime]) -> Iterator[Outcome]:
        """Yield the rows and dead letters of an archive object's events, each once."""
        try:
            envelopes = object_at(uri, self.storage).envelopes()
        except ObjectNotFound:
            envelopes = []
        for envelope in envelopes:
            if time := times.pop((envelope.event_id, envelope.message_id), None):
                yield self.process(envelope.message(), time)
        if times:
            logger.warning("%s: %d events of a load file are not in the archive any more", uri, len(times))
