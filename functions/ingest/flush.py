"""A flush: the stages that the events of a batch take together, from the queue to their acknowledgements.

`functions/ingest/stages.py` has them in their order.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from functions import log
from functions.archive.writer import Archive
from functions.core.message import Message
from functions.ingest.admission import Admission, FlushResult
from functions.ingest.batch_writer import NotDurable, dead_letter_of
from functions.ingest.event_queue import Ack, Failure, QueuedEvent, resolve
from functions.ingest.flush_report import FlushReport, Outcome
from functions.ingest.http_client import is_overload
from functions.ingest.scheduler import MAX_FLUSHES
from functions.ingest.slot import FlushSlot
from functions.ingest.threads import RunsCalls, Threads
from functions.ingest.warehouse import InsertResult, InsertRow, Warehouse
from functions.settings import Settings
from functions.system import SYSTEM, System

type Process = Callable[[Message, datetime], Outcome]
"""Returns the row or the dead letter of a message at a time, as `functions.core.pipeline.EventPipeline` does."""


class ProcessingFailed(Exception):
    """The code has a defect that failed an event. The text has the type of the error and its place, and no payload."""


class ProcessedEvent(msgspec.Struct, eq=False):
    """An event that has become a row or a dead letter.

    Attributes:
        outcome: The row or the dead letter.
        size: Bytes of the message's payload and attributes.
        ack: Its acknowledgement.
    """

    outcome: Outcome
    size: int
    ack: Ack


@dataclasses.dataclass(slots=True)
class FlushServices:
    """The services that all flushes of an instance share.

    Each table has its own limit of concurrent inserts. So a table that hangs holds up its own events only.

    Attributes:
        process: Makes a row or a dead letter of each message.
        archive: Takes all messages.
        warehouse: Takes rows and dead letters.
        threads: Runs the calls of archive and warehouse.
        system: The machine.
        insert_slots: Limits the concurrent inserts into each table.
    """

    process: Process
    archive: Archive
    warehouse: Warehouse
    threads: RunsCalls = dataclasses.field(default_factory=Threads)
    system: System = SYSTEM
    insert_slots: collections.defaultdict[str, asyncio.Semaphore] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(lambda: asyncio.Semaphore(MAX_FLUSHES)), init=False
    )


class Flush:
    """The stages of a batch, and its counts.

    When half of the events are durable and the rest takes longer than that half did, and than `linger_ms`, the slot is
    freed: the next flush does not wait for the rest.

    Args:
        batch: The events, at least one, in order of arrival.
        services: The services.
        settings: The maximum seconds of a flush.
        admission: Counts the events as in flight.
        slot: The flush's slot in the scheduler.

    Attributes:
        report: Counts and times, which become the log line.
    """

    def __init__(
        self,
        batch: Sequence[QueuedEvent],
        services: FlushServices,
        settings: Settings,
        admission: Admission,
        slot: FlushSlot,
    ) -> None:
        self._batch = batch
        self._services = services
        self._timeout = settings.flush_timeout
        self._linger = settings.linger_ms / 1000
        self._admission = admission
        self._slot = slot
        self._clock = slot.clock
        self._now = services.system.now()
        self._object = services.archive.name(self._now)
        self._archived = slot.started
        self._in_flight_at_start = admission.events
        self._waited = slot.started - batch[0].arrived
        self.report = FlushReport(
            archive_uri=services.archive.uri(self._object),
            events=len(batch),
            message_bytes=sum(event.size for event in batch),
            wait_ms=_milliseconds(self._waited),
        )
        self._unresolved = len(batch)
        self._unresolved_bytes = self.report.message_bytes

    @property
    def result(self) -> FlushResult:
        """The result, from which `Admission` adapts its limit."""
        return FlushResult(
            started=self._slot.started,
            ended=self._clock(),
            waited=self._waited,
            in_flight=self._in_flight_at_start,
            events=self.report.events,
            durable=self.report.durable,
            is_overloaded=self.report.overloaded,
        )

    async def run(self, stages: Callable[["Flush"], Awaitable[None]]) -> None:
        """Run the stages within the timeout. At the end each event is acknowledged or failed."""
        try:
            # The calls end in time by themselves, unless an answer arrives byte by byte.
            async with asyncio.timeout(self._timeout):
                await stages(self)
                self.report.insert_ms = _milliseconds(self._clock() - self._archived)
        except Exception as error:
            self._fail((event.ack for event in self._batch), error)
        finally:
            self._release(self._unresolved, self._unresolved_bytes)
            self._slot.free(is_overloaded=self.report.overloaded)
            oldest = min(event.message.publish_time for event in self._batch)
            self.report.lag_ms = _milliseconds((self._services.system.now() - oldest).total_seconds())

    def process(self) -> list[ProcessedEvent]:
        """Make a row or a dead letter of each event.

        All events are processed in a row, while code and tables are in the processor's caches: that halves the time.
        """
        process, now = self._services.process, self._now
        events: list[ProcessedEvent] = []
        for event in self._batch:
            try:
                events.append(ProcessedEvent(process(event.message, now), event.size, event.ack))
            except Exception as error:  # A defect of the code fails its own event only.
                resolve(event.ack, Failure(ProcessingFailed, log.safe_message(error)))
        self._slot.processed()
        return events

    async def archive(self, events: Sequence[ProcessedEvent]) -> None:
        """Archive the raw bytes of all events as one object. After that the next flush may start."""
        services, outcomes = self._services, [event.outcome for event in events]
        try:
            if outcomes:
                write = services.archive.write
                self.report.archive_bytes = await services.threads.run(write, self._object, outcomes, self._timeout / 2)
        finally:
            self._slot.archived()
        self._archived = self._clock()
        self.report.archive_ms = _milliseconds(self._archived - self._slot.started)

    async def insert(self, table: str, events: Sequence[ProcessedEvent]) -> InsertResult:
        """Insert the rows of a table."""
        services, uri = self._services, self.report.archive_uri
        outcomes = [event.outcome for event in events]

        def insert() -> InsertResult:
            rows = [InsertRow(outcome.insert_id, outcome.encoded(uri)) for outcome in outcomes]
            return services.warehouse.insert(table, rows, self._slot.started + self._timeout - self._clock())

        async with services.insert_slots[table]:
            return await services.threads.run(insert)

    def acknowledge(self, events: Sequence[ProcessedEvent], result: InsertResult) -> list[ProcessedEvent]:
        """Acknowledge the events whose rows are durable. Return those that BigQuery rejects as dead letters."""
        self.report.overloaded |= result.is_overloaded
        dead_letters: list[ProcessedEvent] = []
        for index, event in enumerate(events):
            if reason := result.retryable.get(index):
                self._fail_for([event.ack], reason)
            elif errors := result.rejected.get(index):
                try:
                    dead_letter = dead_letter_of(event.outcome, errors, self._services.system.now())
                except NotDurable as error:
                    self._fail_for([event.ack], str(error))
                else:
                    dead_letters.append(ProcessedEvent(dead_letter, event.size, event.ack))
            else:
                self.report.count_durable(event.outcome)
                resolve(event.ack)
        self._resolved(len(events) - len(dead_letters), _size(events) - _size(dead_letters))
        return dead_letters

    def fail(self, table: str, events: Sequence[ProcessedEvent], error: Exception) -> None:
        """Fail the events that could not be inserted into a table."""
        self._fail((event.ack for event in events), error, f"{table}: ")
        self._resolved(len(events), _size(events))

    def _fail(self, acks: Iterable[Ack], error: Exception, prefix: str = "") -> None:
        self.report.overloaded |= is_overload(error)
        self._fail_for(acks, prefix + log.safe_message(error))

    def _fail_for(self, acks: Iterable[Ack], reason: str) -> None:
        self.report.count_failed(sum(resolve(ack, Failure(NotDurable, reason)) for ack in acks), reason)

    def _resolved(self, events: int, size: int) -> None:
        """Count events as no longer in flight, and free the slot early where only the minority remains."""
        self._release(events, size)
        if self._unresolved and 2 * self.report.durable >= self.report.events:
            self._slot.free_after(max(self._slot.service_seconds, self._linger))

    def _release(self, events: int, size: int) -> None:
        self._unresolved -= events
        self._unresolved_bytes -= size
        self._admission.release(events, size)


def _size(events: Sequence[ProcessedEvent]) -> int:
    return sum(event.size for event in events)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
