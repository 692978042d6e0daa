"""A run of `drain`: pulls what has arrived, makes it durable in chunks, and lets load jobs bring it into the tables.

A message is acknowledged when its archive object and its load file are durable. Its row is in the table a minute or two
later: a run starts load jobs at its end, and the next one looks after them.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any, Self

import msgspec
from google.cloud import bigquery
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.storage import Client as StorageClient

from functions import log
from functions.archive.writer import Archive
from functions.clients import bigquery_client, storage_client
from functions.core.pipeline import EventPipeline
from functions.drain.limits import CHUNK_BYTES, CHUNK_MESSAGES, MAX_SECONDS
from functions.drain.load_files import LoadFiles, load_formats
from functions.drain.loads import LoadReport, Loads
from functions.drain.row_inserts import RowInserts
from functions.drain.subscription import Lease, Subscription
from functions.ingest import http_client
from functions.ingest.batch_writer import BatchWriter
from functions.ingest.flush_report import FlushReport
from functions.ingest.warehouse import Warehouse
from functions.settings import InvalidSettings, Settings
from functions.system import SYSTEM, System

_FRESH_PULLS = 2
"""Number of pulls in a row without an older message than the run, after which the subscription counts as empty: Pub/Sub
gives messages in any order."""

_GRACE_SECONDS = 30
"""Seconds after the end of the pulls in which the writing of a chunk may begin."""

_PULL_SECONDS = 2.0
"""Maximum seconds that a pull waits for messages. If there are none, the subscription is empty."""

logger = logging.getLogger("functions.main")


class DrainReport(msgspec.Struct):
    """Result of a run.

    Attributes:
        messages: Number of messages that are durable and acknowledged.
        chunks: Number of chunks.
        seconds: Seconds that the run took.
        is_empty: Whether nothing is left that was published before the run began, as far as Pub/Sub says.
        loads: What it has done for the load jobs; None if that failed.
        errors: Why the run ended early, without duplicates.
    """

    messages: int = 0
    chunks: int = 0
    seconds: float = 0.0
    is_empty: bool = False
    loads: LoadReport | None = None
    errors: list[str] = []

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of its log line."""
        fields = msgspec.structs.asdict(self)
        loads = fields.pop("loads")
        return {**fields, **(msgspec.structs.asdict(loads) if loads else {})}


@dataclasses.dataclass(frozen=True, slots=True)
class Drain:
    """Brings the messages of a subscription into the archive and the tables.

    Attributes:
        subscription: Returns the subscription, for a run.
        writer: Makes chunks durable.
        loads: The load jobs.
        system: The machine.
    """

    subscription: Callable[[], Subscription]
    writer: BatchWriter
    loads: Loads
    system: System = SYSTEM

    @classmethod
    def build(cls, settings: Settings, system: System = SYSTEM) -> Self:
        """Build it for a deployment.

        Args:
            settings: The settings of the deployment.
            system: The machine.

        Raises:
            InvalidSettings: `SUBSCRIPTION` is missing, or `IP_POLICY=hash` has no key.
        """
        name = settings.subscription
        if name is None:
            raise InvalidSettings("environment: SUBSCRIPTION is missing; it is projects/PROJECT/subscriptions/NAME")
        process = EventPipeline.from_settings(settings)
        storage, client, api = storage_client(settings), bigquery_client(settings), http_client.storage_api(system)
        archive = Archive(api, settings.archive_bucket, process.contracts.event_types)
        files = LoadFiles(api, settings.archive_bucket, load_formats(settings))
        return cls(
            lambda: Subscription(SubscriberClient(), name, system),
            BatchWriter(process, archive, files, settings.flush_timeout, _log, system),
            build_loads(settings, process, client, storage, system),
            system,
        )

    def __call__(self) -> DrainReport:
        """Drain the subscription, and look after the load jobs; blocks. Errors are in the report."""
        clock = self.system.monotonic
        report, started = DrainReport(), clock()
        try:
            self.pull(report, started + MAX_SECONDS)
        except Exception as error:
            report.errors.append(log.safe_message(error))
        try:
            report.loads = self.loads.advance()
        except Exception as error:
            report.errors.append(log.safe_message(error))
        report.seconds = round(clock() - started, 3)
        return report

    def pull(self, report: DrainReport, deadline: float) -> None:
        """Pull messages until the subscription is empty or the time is up, and make them durable; blocks.

        Ctrl-C ends it when the current pull ends. What is not acknowledged by then is delivered again.

        Args:
            report: Counts what is durable, also where an error ends it.
            deadline: Time after which it pulls no more, by the clock `monotonic`.

        Raises:
            google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
            msgspec.DecodeError: The ledger is none.
            ApiError: Cloud Storage rejected a chunk.
            urllib3.exceptions.HTTPError: Cloud Storage did not answer in time, or the connection failed.
        """
        # While Cloud Storage does not answer, no message is pulled: each pull counts as a delivery.
        self.loads.check()
        with self.subscription() as subscription:
            for leases in self._chunks(subscription, report, deadline):
                if self.system.monotonic() >= deadline + _GRACE_SECONDS:
                    break  # Cloud Storage is slow. The rest of the time is that of the load jobs.
                self.writer.write([lease.message for lease in leases], self.system.now())
                report.chunks += 1
                subscription.acknowledge(leases)
                report.messages += len(leases)

    def _chunks(self, subscription: Subscription, report: DrainReport, deadline: float) -> Iterator[list[Lease]]:
        """Yield chunks until the subscription is empty or the time is up; each is pulled while the last is written."""
        begin, is_stopped = self.system.now(), self.system.event()

        def is_over() -> bool:
            return report.is_empty or is_stopped.is_set() or self.system.monotonic() >= deadline

        def pull() -> list[Lease]:
            chunk: list[Lease] = []
            size = fresh = 0
            while len(chunk) < CHUNK_MESSAGES and size < CHUNK_BYTES and not is_over():
                pulled = subscription.pull(CHUNK_MESSAGES - len(chunk), _PULL_SECONDS)
                chunk += pulled
                size += sum(lease.message.size for lease in pulled)
                # What arrives meanwhile is left to the next run: otherwise a run never ends where events are frequent.
                fresh = fresh + 1 if all(lease.message.publish_time > begin for lease in pulled) else 0
                report.is_empty = not pulled or fresh == _FRESH_PULLS
            return chunk

        with self.system.pool(1, "pull") as puller:
            pulling = puller.submit(pull)
            try:
                while chunk := pulling.result():
                    pulling = puller.submit(pull)
                    yield chunk
            finally:
                is_stopped.set()


def build_loads(
    settings: Settings,
    process: EventPipeline,
    client: bigquery.Client,
    storage: StorageClient,
    system: System = SYSTEM,
) -> Loads:
    """Return the load jobs of a deployment, which need no subscription.

    Args:
        settings: The settings of the deployment.
        process: Makes rows and dead letters of messages.
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        system: The machine.
    """
    warehouse = Warehouse(http_client.bigquery_api(system), client.project, settings.dataset)
    insert_rows = RowInserts(storage, settings.archive_bucket, process, warehouse, settings.flush_timeout, _log, system)
    return Loads(client, storage, settings, insert_rows, system)


def _log(report: FlushReport) -> None:
    logger.log(report.severity, "flush", extra={"fields": report.fields})
