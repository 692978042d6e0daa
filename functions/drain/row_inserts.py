"""Inserts the rows of a load file that has a bad row: each alone, so that only the bad one becomes a dead letter."""

import collections
import dataclasses
import logging
from collections.abc import Callable, Iterator
from datetime import datetime

from google.cloud.storage import Client as StorageClient

from functions.archive.reader import ObjectNotFound, object_at
from functions.core.dead_letters import Stage
from functions.core.pipeline import EventPipeline
from functions.drain.load_records import load_records
from functions.ingest.batch_writer import Inserts, insert_by_table
from functions.ingest.flush_report import FlushReport, Outcome
from functions.system import SYSTEM, System

logger = logging.getLogger("functions.main")


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
            UnreadableObject: The file, or the archive object of its rows, cannot be read.
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected a request or did not answer.
            ApiError: BigQuery rejected the request.
            urllib3.exceptions.HTTPError: BigQuery did not answer in time, or the connection failed.
        """
        by_object: dict[str, dict[tuple[str, str], datetime]] = collections.defaultdict(dict)
        try:
            for record in load_records(self.storage.bucket(self.bucket), name):
                by_object[record.archive_uri][record.event_id, record.message_id] = record.time
        except ObjectNotFound:
            return
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
