"""The group commit: events in flight together share one archive object and one insert per table.

All concurrency of the ingest function is here and in the stages of a flush.
"""

import asyncio
import contextvars
import logging

from functions.core.message import Message
from functions.ingest.admission import Admission, Overloaded
from functions.ingest.batch_writer import NotDurable
from functions.ingest.event_queue import EventQueue, Failure, QueuedEvent, resolve
from functions.ingest.flush import Flush, FlushServices
from functions.ingest.scheduler import BACKLOG_THRESHOLD, FlushScheduler
from functions.ingest.slot import FlushSlot
from functions.ingest.stages import write_batch
from functions.settings import Settings

logger = logging.getLogger(__name__)


class GroupCommit:
    """Queues events, and starts the flushes that make them durable.

    `FlushScheduler` decides when a flush starts, `Admission` how many events may be in flight.

    Args:
        services: The services that take the events.
        settings: Limits of batches, of what is in flight, and of time.

    Attributes:
        admission: Counts what is in flight.
        system: The machine.
    """

    def __init__(self, services: FlushServices, settings: Settings) -> None:
        self.admission = Admission(settings)
        self.system = services.system
        self._services = services
        self._settings = settings
        self._clock = self.system.monotonic
        self._scheduler = FlushScheduler(settings.linger_ms / 1000, settings.flush_timeout, settings.flush_interval)
        self._queue = EventQueue(settings)
        self._flushes: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._must_wait = False
        """It is true while only the end of a running flush, or of its archiving, can start the next one."""

    async def __call__(self, message: Message) -> None:
        """Return when the event is archived and in its table, or in that of the dead letters.

        If the caller is cancelled, its event is flushed all the same.

        Raises:
            Overloaded: Too much is in flight.
            NotDurable: Cloud Storage or BigQuery did not take the event in time.
            ProcessingFailed: The code has a defect.
        """
        loop = asyncio.get_running_loop()
        event = QueuedEvent(message, message.size, self._clock(), loop.create_future())
        self.admission.admit(event.size)
        queue = self._queue
        was_full = queue.is_full
        queue.append(event)
        if not self._must_wait:
            if self._timer is None:
                self._timer = loop.call_soon(self._start_flushes)
            elif (self._scheduler.running and len(queue) == BACKLOG_THRESHOLD) or (not was_full and queue.is_full):
                self._start_flushes()
        failure = await event.ack
        if failure is not None:
            raise failure.error(failure.reason)

    def _start_flushes(self) -> None:
        """Start the flushes that may start now, and set a timer for the next one."""
        self._must_wait = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            now = self._clock()
            start = self._scheduler.next_start(self._queue.state, now)
            if start is None:
                self._must_wait = True
                return
            if start > now:
                self._timer = asyncio.get_running_loop().call_later(start - now, self._start_flushes)
                return
            if batch := self._next_batch():
                self._scheduler.started(self._clock())
                # Many requests share a flush, so none of them is its context: its log line has no execution id.
                flush = asyncio.create_task(self._flush(batch), context=contextvars.Context())
                self._flushes.add(flush)
                flush.add_done_callback(self._flushed)

    def _next_batch(self) -> list[QueuedEvent]:
        """Return the events of the next flush. Those that were queued longer than `flush_timeout` are failed."""
        max_events = self._scheduler.fair_share(self.admission.events)
        batch = self._queue.next_batch(max_events, self._clock() - self._settings.flush_timeout)
        for event in batch.expired:
            self.admission.release(1, event.size)
            resolve(event.ack, Failure(NotDurable, "no flush was free in time"))
        return batch.events

    async def _flush(self, batch: list[QueuedEvent]) -> None:
        slot = FlushSlot(self._scheduler, self._clock, self._start_flushes)
        flush = Flush(batch, self._services, self._settings, self.admission, slot)
        report = flush.report
        try:
            await flush.run(write_batch)
        finally:
            self.admission.flush_ended(flush.result)
            self._reject_excess()
            report.rejected, self.admission.rejected = self.admission.rejected, 0
            report.in_flight_limit = int(self.admission.limit)
            logger.log(report.severity, "flush", extra={"fields": report.fields})

    def _flushed(self, flush: asyncio.Task[None]) -> None:
        self._flushes.discard(flush)
        self._start_flushes()

    def _reject_excess(self) -> None:
        """Reject the last of the queued events while more are in flight than the limit. Nothing was done with them."""
        while self._queue and self.admission.events > self.admission.limit:
            event = self._queue.pop_last()
            self.admission.release(1, event.size)
            resolve(event.ack, Failure(Overloaded, str(self.admission.reject())))
