"""Batches to archive and tables, by the functions' own pipeline and writers."""

import functools
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence

import apache_beam as beam
import msgspec
import urllib3
from apache_beam.metrics import Metrics

from dataflow import secrets
from dataflow.options import WRITERS
from dataflow.storage_write import StorageWriter, write_client
from functions.archive.writer import Archive
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.ingest import http_client
from functions.ingest.batch_writer import BatchWriter, Inserts
from functions.ingest.flush_report import FlushReport
from functions.ingest.warehouse import Warehouse
from functions.settings import Settings
from functions.system import utc_now

NAMESPACE = "sluice"

logger = logging.getLogger(__name__)


class Nowhere(http_client.Api):
    """An API that sends nothing, and answers as if Cloud Storage and BigQuery had accepted the request."""

    def __init__(self) -> None:
        super().__init__("", urllib3.PoolManager().urlopen)

    def post(self, path: str, content_type: str, body: bytes, seconds: float) -> bytes:
        """Return the answer for an object, or for rows that are all accepted."""
        del path, content_type, body, seconds
        return b'{"name": ""}'


_making = threading.Lock()


def writer(settings: Settings, inserts_by: str, *, dry_run: bool = False) -> BatchWriter:
    """Return the writer of batches, which is created once in a worker's process and shared by its threads.

    With writers of their own, threads would have a connection each for each table, and one would not know the rows that
    another one has appended.

    Args:
        settings: The settings.
        inserts_by: One of `dataflow.options.WRITERS`; not used in a dry run.
        dry_run: Whether nothing is written.
    """
    with _making:  # `functools.cache` would let several threads create one each.
        return _made(settings, inserts_by, dry_run)


@functools.cache
def _made(settings: Settings, inserts_by: str, dry_run: bool) -> BatchWriter:
    process = EventPipeline.from_settings(settings)
    storage = Nowhere() if dry_run else http_client.storage_api()
    return BatchWriter(
        process,
        Archive(storage, settings.archive_bucket, process.contracts.event_types),
        _inserts(settings, inserts_by) if not dry_run else Warehouse(Nowhere(), "", settings.dataset),
        settings.flush_timeout,
        _report,
    )


def _inserts(settings: Settings, inserts_by: str) -> Inserts:
    project = http_client.project(settings)
    if inserts_by == "storage_write":
        return StorageWriter(write_client(), project, settings.dataset)
    return Warehouse(http_client.bigquery_api(), project, settings.dataset)


class WriteBatches(beam.DoFn):
    """Writes batches. A batch that cannot be written fails the bundle, which the runner retries.

    Args:
        variables: The settings, as `Settings.from_environment` reads them, without any secret.
        ip_hash_key_secret: The secret that has the key of `IP_POLICY=hash`; None: it is in the worker's environment.
        inserts_by: One of `dataflow.options.WRITERS`.
        dry_run: Whether nothing is written.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        ip_hash_key_secret: str | None = None,
        inserts_by: str = WRITERS[0],
        *,
        dry_run: bool = False,
    ) -> None:
        self._variables = dict(variables)
        self._ip_hash_key_secret = ip_hash_key_secret
        self._inserts_by = inserts_by
        self._dry_run = dry_run

    def setup(self) -> None:
        """Connect to the services."""
        secret = self._ip_hash_key_secret
        key = secrets.fetch(secret) if secret else os.environ.get("IP_HASH_KEY", "")
        settings = Settings.from_environment({**self._variables, "IP_HASH_KEY": key})
        set_log_level(settings)
        self._writer = writer(settings, self._inserts_by, dry_run=self._dry_run)

    def process(self, element: Sequence[Message]) -> Iterator[FlushReport]:
        """Write a batch, and yield a report when all of it is durable.

        Raises:
            NotDurable: BigQuery did not take all rows, for a retryable reason.
            ApiError: Cloud Storage or BigQuery rejected a request.
            urllib3.exceptions.HTTPError: One of them did not answer in time, or the connection failed.
        """
        yield self._writer.write(list(element), utc_now())


def set_log_level(settings: Settings) -> None:
    """Set the level of this package's loggers to LOG_LEVEL; the runner sets that of all others."""
    logging.getLogger("dataflow").setLevel(settings.log_level)


def _report(report: FlushReport) -> None:
    """Log and count a batch as a flush of the function: the log-based metrics have the same names.

    A worker of Dataflow sends its log lines as text, so the fields are JSON in it.
    """
    logger.log(report.severity, "flush %s", msgspec.json.encode(report.fields).decode())
    _distribution("events").update(report.events)
    for table, rows in report.rows.items():
        _counter(f"rows/{table}").inc(rows)
    for stage, dead_letters in report.dead_letters.items():
        _counter(f"dead-letters/{stage}").inc(dead_letters)
    _counter("unknown-fields").inc(report.unknown_fields)
    _distribution("archive").update(report.archive_ms)
    _distribution("insert").update(report.insert_ms)
    _distribution("lag").update(report.lag_ms)


_counter = functools.partial(Metrics.counter, NAMESPACE)
_distribution = functools.partial(Metrics.distribution, NAMESPACE)
