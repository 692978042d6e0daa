"""The group commit: events in flight together share one archive object and one insert per table.

All concurrency of the ingest function lives here.
"""

import asyncio
import collections
import contextlib
import contextvars
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

import msgspec

from functions import log
from functions.archive.writer import Archive
from functions.core.dead_letters import DeadLetter
from functions.core.message import MAX_REQUEST_BYTES, Message, NotAMessage
from functions.core.pipeline import utc_now
from functions.ingest.admission import Admission, FlushResult, Overloaded
from functions.ingest.batch_writer import NotDurable, by_table, rejected
from functions.ingest.flush_report import FlushReport, Outcome
from functions.ingest.http_client import CONNECTIONS, is_overload
from functions.ingest.scheduler import BACKLOG_THRESHOLD, MAX_FLUSHES, FlushScheduler, Queue
from functions.ingest.warehouse import InsertResult, InsertRow, Warehouse
from functions.settings import Settings

MAX_THREADS = CONNECTIONS
"""Maximum threads: all flushes insert into four tables each."""

RECEIVE_SECONDS = 5.0
"""Maximum seconds to read a request body."""

logger = logging.getLogger(__name__)

type Pipeline = Callable[[Message, datetime], Outcome]
"""`functions.core.pipeline.EventPipeline`, or whoever else decides what becomes of a message at a time."""

type NextChunk = Callable[[], Coroutine[None, None, tuple[bytes, bool]]]
"""Gives the next bytes of a request's body, and whether there are more."""


class _Failure(NamedTuple):
    """The reason for which an event is not durable.

    Attributes:
        error: What its request raises: `NotDurable` or `Overloaded`.
        reason: The error's message.
    """

    error: type[Exception]
    reason: str


type _Ack = asyncio.Future[_Failure | None]
"""Is resolved with None when the event is durable."""


class _QueuedEvent(msgspec.Struct, eq=False):
    """An event that waits for its flush."""

    message: Message
    size: int
    arrived: float
    fate: _Ack


class _FlushedEvent(msgspec.Struct, eq=False):
    """An event in its flush."""

    outcome: Outcome
    size: int
    fate: _Ack


def _resolve(fate: _Ack, failure: _Failure | None = None) -> None:
    if not fate.done():
        fate.set_result(failure)


class _Running(msgspec.Struct, eq=False):
    """A running flush.

    Attributes:
        started: When it started, in seconds of the group commit's clock.
        in_flight: Number of events in flight at that time.
        events: Number of its events that are neither durable nor failed.
        size: Bytes of these events.
        report: Becomes its log line.
        processed: When its events were processed. What follows is the time of the services.
        has_place: Whether the scheduler counts it as running.
        patience: Ends when the rest of its events takes longer than the half that is durable, and than `linger_ms`.
    """

    started: float
    in_flight: int
    events: int
    size: int
    report: FlushReport
    processed: float
    has_place: bool = True
    patience: asyncio.TimerHandle | None = None


class GroupCommit:
    """Makes events durable, many at a time.

    `FlushScheduler` decides when a flush starts, `Admission` how many events may be in flight. When half of a flush is
    durable and the rest takes longer than that half did, and than `linger_ms`, the next flush does not wait for it.
    Each table has its own limit of concurrent inserts. So a table that hangs holds up its own events only.

    Args:
        process: Decides what becomes of each message.
        archive: Takes all messages.
        warehouse: Takes rows and dead letters.
        settings: Bounds of batches, of what is in flight, and of time.
        clock: Returns the time in seconds, from any start.
    """

    def __init__(
        self,
        process: Pipeline,
        archive: Archive,
        warehouse: Warehouse,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._clock = clock
        self._archive = archive
        self._warehouse = warehouse
        self._settings = settings
        self._admission = Admission(settings)
        self._scheduler = FlushScheduler(settings.linger_ms / 1000, settings.flush_timeout)
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="commit")
        self._free_threads = asyncio.Semaphore(MAX_THREADS)
        self._waiting: collections.deque[_QueuedEvent] = collections.deque()
        self._waiting_bytes = 0
        self._table_places = collections.defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(MAX_FLUSHES))
        self._flushes: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._must_wait = False
        """Whether only the end of a running flush, or of its archiving, can start the next one."""

    async def receive(self, next_chunk: NextChunk, length: int | None) -> bytes:
        """Read the body of a request; while it arrives, it is in flight as events are.

        Args:
            next_chunk: Gives what comes next of the body.
            length: Bytes that are announced, if any: of what has no room, nothing is read.

        Raises:
            Overloaded: Too much is in flight.
            NotAMessage: It is longer than any message.
            NotDurable: It does not arrive in time.
        """
        size = length or 0
        _check_length(size)
        self._admission.read(size)
        loop = asyncio.get_running_loop()
        latest = loop.time() + RECEIVE_SECONDS
        body: list[bytes] = []
        arrived, more = 0, True
        reading: asyncio.Task[tuple[bytes, bool]] | None = None
        try:
            while more:
                reading = asyncio.Task(next_chunk(), loop=loop, eager_start=True)
                if not reading.done():  # mostly it is, and needs no timer
                    async with asyncio.timeout_at(latest):
                        await reading
                chunk, more = reading.result()
                arrived += len(chunk)
                if arrived > size:
                    _check_length(arrived)
                    self._admission.read_more(arrived - size)
                    size = arrived
                body.append(chunk)
        except TimeoutError:
            raise NotDurable(f"the request did not arrive within {RECEIVE_SECONDS:.0f} s") from None
        finally:
            self._admission.has_read(size)
            reading = None  # Its exception refers to this frame: see `_in_thread`.
        return b"".join(body)

    async def __call__(self, message: Message) -> None:
        """Return when the event is archived and in its table, or a dead letter in theirs.

        If the caller is cancelled, its event is flushed all the same.

        Raises:
            Overloaded: Too much is in flight.
            NotDurable: Cloud Storage or BigQuery did not take the event in time.
        """
        loop = asyncio.get_running_loop()
        entry = _QueuedEvent(message, message.size, self._clock(), loop.create_future())
        self._admission.admit(entry.size)
        was_full = self._is_full()
        self._waiting.append(entry)
        self._waiting_bytes += entry.size
        if not self._must_wait:
            if self._timer is None:
                self._timer = loop.call_soon(self._start_flushes)
            elif self._scheduler.running and (
                len(self._waiting) == BACKLOG_THRESHOLD or (not was_full and self._is_full())
            ):
                self._start_flushes()
        failure = await entry.fate
        if failure is not None:
            raise failure.error(failure.reason)

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._settings.batch_rows or self._waiting_bytes >= self._settings.batch_bytes

    def _start_flushes(self) -> None:
        """Start the flushes that may start now, and come back when the next one may."""
        self._must_wait = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            queue = Queue(len(self._waiting), self._is_full(), self._waiting[0].arrived)
            now = self._clock()
            start = self._scheduler.next_start(queue, now)
            if start is None:
                self._must_wait = True
                return
            remaining = start - now
            if remaining > 0:
                self._timer = asyncio.get_running_loop().call_later(remaining, self._start_flushes)
                return
            if batch := self._next_batch():
                self._scheduler.started(self._clock())
                # Many requests share a flush, so none of them is its context: its log line has no execution id.
                flush = asyncio.create_task(self._flush(batch), context=contextvars.Context())
                self._flushes.add(flush)
                flush.add_done_callback(self._flushed)

    def _flushed(self, flush: asyncio.Task[None]) -> None:
        self._flushes.discard(flush)
        self._start_flushes()

    def _next_batch(self) -> list[_QueuedEvent]:
        """Return the next batch, in order of arrival. Entries queued longer than `flush_timeout` are rejected."""
        batch: list[_QueuedEvent] = []
        size = 0
        patience = self._clock() - self._settings.flush_timeout
        most = min(self._settings.batch_rows, self._scheduler.fair_share(self._admission.events))
        while self._waiting and len(batch) < most:
            entry = self._waiting[0]
            if batch and size + entry.size > self._settings.batch_bytes:
                break
            self._waiting.popleft()
            self._waiting_bytes -= entry.size
            if entry.arrived < patience:
                self._admission.release(1, entry.size)
                _resolve(entry.fate, _Failure(NotDurable, "no flush was free in time"))
            else:
                batch.append(entry)
                size += entry.size
        return batch

    def _reject_excess(self) -> None:
        """Reject the last of the queued events, with which nothing was done, while more are in flight than may be."""
        while self._waiting and self._admission.events > self._admission.limit:
            entry = self._waiting.pop()
            self._waiting_bytes -= entry.size
            self._admission.release(1, entry.size)
            _resolve(entry.fate, _Failure(Overloaded, str(self._admission.reject())))

    async def _flush(self, batch: Sequence[_QueuedEvent]) -> None:
        """Process, archive and insert a batch, and settle each event's fate."""
        now, started = utc_now(), self._clock()
        deadline = started + self._settings.flush_timeout
        name = self._archive.name(now)
        report = FlushReport(
            archive_uri=self._archive.uri(name),
            events=len(batch),
            message_bytes=sum(entry.size for entry in batch),
            wait_ms=_milliseconds(started - batch[0].arrived),
        )
        flush = _Running(started, self._admission.events, len(batch), report.message_bytes, report, started)
        try:
            # The calls give up in time by themselves, but for an answer that comes byte by byte.
            async with asyncio.timeout(self._settings.flush_timeout):
                events = self._process_all(batch, now)
                flush.processed = self._clock()
                report.archive_bytes = await self._write(name, events)
                archived = self._clock()
                report.archive_ms = _milliseconds(archived - started)
                await self._insert_all(events, flush, deadline)
                report.insert_ms = _milliseconds(self._clock() - archived)
        except Exception as error:
            self._fail([entry.fate for entry in batch], error, report)
        finally:
            self._release(flush, flush.events, flush.size)
            self._adapt(flush, started - batch[0].arrived)
            oldest = min(entry.message.publish_time for entry in batch)
            report.lag_ms = _milliseconds((utc_now() - oldest).total_seconds())
            logger.log(report.severity, "flush", extra={"fields": report.fields})

    def _release(self, flush: _Running, events: int, size: int) -> None:
        """Count events of a flush as no longer in flight."""
        flush.events -= events
        flush.size -= size
        self._admission.release(events, size)

    def _leave_place(self, flush: _Running, *, is_overloaded: bool) -> None:
        """Let the scheduler give the flush's place to another one."""
        if flush.patience is not None:
            flush.patience.cancel()
        if flush.has_place:
            flush.has_place = False
            now = self._clock()
            self._scheduler.ended(flush.started, now, now - flush.processed, is_overloaded=is_overloaded)

    def _leave_early(self, flush: _Running) -> None:
        """Start the next flush without waiting for the rest of this one."""
        self._leave_place(flush, is_overloaded=False)
        self._start_flushes()

    def _adapt(self, flush: _Running, waited: float) -> None:
        """Adapt scheduler and admission to how the services did in a flush."""
        admission, report = self._admission, flush.report
        self._leave_place(flush, is_overloaded=report.overloaded)
        admission.flush_ended(
            FlushResult(
                started=flush.started,
                ended=self._clock(),
                waited=waited,
                in_flight=flush.in_flight,
                events=report.events,
                durable=report.durable,
                is_overloaded=report.overloaded,
            )
        )
        self._reject_excess()
        report.turned_away, admission.rejected = admission.rejected, 0
        report.in_flight_limit = int(admission.limit)

    def _process_all(self, batch: Sequence[_QueuedEvent], now: datetime) -> list[_FlushedEvent]:
        """Process a batch in a row, while code and tables are in the processor's caches. It takes half the time so."""
        events: list[_FlushedEvent] = []
        for entry in batch:
            try:
                events.append(_FlushedEvent(self._process(entry.message, now), entry.size, entry.fate))
            except Exception as error:  # that nobody foresaw: its own request tells it
                if not entry.fate.done():
                    entry.fate.set_exception(error)
        return events

    async def _write(self, name: str, events: Sequence[_FlushedEvent]) -> int:
        """Archive; then the next flush may start."""
        outcomes = [event.outcome for event in events]
        try:
            if not outcomes:
                return 0
            return await self._in_thread(self._archive.write, name, outcomes, self._settings.flush_timeout / 2)
        finally:
            self._scheduler.archived()
            self._start_flushes()

    async def _insert_all(self, events: Sequence[_FlushedEvent], flush: _Running, deadline: float) -> None:
        """Insert into all tables at once; then the dead letters of the rows that BigQuery rejected."""
        tables = by_table(events, lambda event: event.outcome)
        rejects = await asyncio.gather(*(self._insert(table, rows, flush, deadline) for table, rows in tables.items()))
        dead_letters = [event for events in rejects for event in events]
        if dead_letters:
            await self._insert(DeadLetter.table, dead_letters, flush, deadline)

    async def _insert(
        self, table: str, events: Sequence[_FlushedEvent], flush: _Running, deadline: float
    ) -> list[_FlushedEvent]:
        """Insert into one table and settle what is durable. Return what BigQuery rejects as dead letters."""
        outcomes, report = [event.outcome for event in events], flush.report

        def insert() -> InsertResult:
            records = [InsertRow(outcome.insert_id, outcome.encoded(report.archive_uri)) for outcome in outcomes]
            return self._warehouse.insert(table, records, deadline - self._clock())

        dead_letters: list[_FlushedEvent] = []
        try:
            async with self._table_places[table]:
                insertion = await self._in_thread(insert)
        except Exception as error:
            self._fail([event.fate for event in events], error, report, f"{table}: ")
        else:
            dead_letters = self._settle_all(table, events, insertion, report)
        self._release(flush, len(events) - len(dead_letters), _size(events) - _size(dead_letters))
        if flush.events and flush.patience is None and 2 * report.durable >= report.events:
            patience = max(self._clock() - flush.processed, self._settings.linger_ms / 1000)
            flush.patience = asyncio.get_running_loop().call_later(patience, self._leave_early, flush)
        return dead_letters

    def _settle_all(
        self, table: str, events: Sequence[_FlushedEvent], insertion: InsertResult, report: FlushReport
    ) -> list[_FlushedEvent]:
        """Settle the fates of rows. Return what BigQuery rejects as dead letters."""
        report.overloaded |= insertion.is_overloaded
        dead_letters: list[_FlushedEvent] = []
        for index, event in enumerate(events):
            if reason := insertion.retryable.get(index):
                self._not_durable([event.fate], reason, report)
            elif errors := insertion.rejected.get(index):
                try:
                    dead_letter = rejected(event.outcome, errors, utc_now())
                except NotDurable as error:
                    self._not_durable([event.fate], str(error), report)
                else:
                    dead_letters.append(_FlushedEvent(dead_letter, event.size, event.fate))
            else:
                report.count(event.outcome)
                _resolve(event.fate)
        return dead_letters

    def _fail(self, fates: Iterable[_Ack], error: Exception, report: FlushReport, prefix: str = "") -> None:
        report.overloaded |= is_overload(error)
        self._not_durable(fates, prefix + log.safe_message(error), report)

    def _not_durable(self, fates: Iterable[_Ack], reason: str, report: FlushReport) -> None:
        failed = 0
        for fate in fates:
            if not fate.done():
                failed += 1
                fate.set_result(_Failure(NotDurable, reason))
        report.failed(failed, reason)

    async def _in_thread[Result](self, call: Callable[..., Result], *arguments: object) -> Result:
        """Call it as soon as a thread is free: a call that nobody waits for any more keeps its own until it ends."""
        await self._free_threads.acquire()
        loop = asyncio.get_running_loop()
        running = self._threads.submit(call, *arguments)

        def free(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before the call
                loop.call_soon_threadsafe(self._free_threads.release)

        running.add_done_callback(free)
        try:
            return await asyncio.wrap_future(running)
        finally:
            del running  # Its exception refers to this frame: the two would keep the batch until the collector comes.


def _check_length(size: int) -> None:
    if size > MAX_REQUEST_BYTES:
        raise NotAMessage(f"not a Pub/Sub push: more than {MAX_REQUEST_BYTES} bytes")


def _size(events: Sequence[_FlushedEvent]) -> int:
    return sum(event.size for event in events)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
