"""The group commit: events in flight together share one archive object and one insert per table.

All concurrency of the ingest function lives here.
"""

import asyncio
import collections
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import msgspec

from functions import log
from functions.archive import Archive
from functions.dead_letter import DeadLetter, Stage
from functions.google_api import CONNECTIONS
from functions.message import MAX_REQUEST_BYTES, Message, NotAMessage
from functions.process import utc_now
from functions.row import Row
from functions.settings import Settings
from functions.warehouse import Insertion, Record, Warehouse

MAX_FLUSHES = 4
"""At once, of which two are in the archive: there a flush takes the most memory."""
MAX_ARCHIVING = 2

INTERVAL = 0.07
"""Seconds at least between the beginnings of two flushes that overlap: an object is worth so many events."""
MANY = 50
INTERVAL_OF_MANY = 0.045
"""The same where many events wait: their share of an object costs less than their requests."""

MAX_THREADS = CONNECTIONS
"""All flushes, each into four tables."""

RECEIVE_SECONDS = 5.0
"""That a request has to arrive, once it has begun."""

logger = logging.getLogger(__name__)

type Outcome = Row | DeadLetter

type Process = Callable[[Message, datetime], Outcome]
"""`functions.process.Process`, or whoever else decides what becomes of a message at a time."""

type NextChunk = Callable[[], Coroutine[None, None, tuple[bytes, bool]]]
"""Gives the next bytes of a request's body, and whether there are more."""


class Overloaded(Exception):
    """Too many events are in flight; nothing was done with this one."""


class NotDurable(Exception):
    """The event is not known to be durable and must be delivered again."""


type _Fate = asyncio.Future[str | None]
"""Is resolved with None when the event is durable, else with the reason why not."""


class _Waiting(msgspec.Struct, eq=False):
    """An event that waits for its flush."""

    message: Message
    size: int
    arrived: float
    fate: _Fate


class _Flushed(msgspec.Struct, eq=False):
    """An event in its flush."""

    outcome: Outcome
    fate: _Fate


def _settle(fate: _Fate, reason: str | None = None) -> None:
    if not fate.done():
        fate.set_result(reason)


class _Report(msgspec.Struct):
    """What the log line of a flush says: counts and times, in milliseconds, and nothing of any payload.

    `turned_away` are the events that found too much in flight since the last line.
    """

    archive_uri: str
    events: int
    message_bytes: int
    wait_ms: int
    lag_ms: int = 0
    archive_ms: int = 0
    archive_bytes: int = 0
    insert_ms: int = 0
    rows: collections.Counter[str] = msgspec.field(default_factory=collections.Counter)
    dead_letters: collections.Counter[str] = msgspec.field(default_factory=collections.Counter)
    unknown_fields: int = 0
    not_durable: int = 0
    turned_away: int = 0
    errors: list[str] = []

    def count(self, durable: Outcome) -> None:
        match durable:
            case Row():
                self.rows[durable.table] += 1
                self.unknown_fields += durable.unknown_fields
            case DeadLetter():
                self.dead_letters[durable.stage] += 1

    def log(self) -> None:
        severity = logging.ERROR if self.errors else logging.WARNING if self.dead_letters else logging.INFO
        logger.log(severity, "flush", extra={"fields": msgspec.structs.asdict(self)})


class GroupCommit:
    """Makes events durable, many at a time.

    With nothing in flight an event is flushed at once. Otherwise it waits until the last flush is in the archive and
    began 70 ms ago, or 45 ms where many wait; until the batch is full; or for `linger_ms`; whatever comes first.

    Args:
        process: Decides what becomes of each message.
        archive: Takes all messages.
        warehouse: Takes rows and dead letters.
        settings: Bounds of batches, of what is in flight, and of time.
    """

    def __init__(self, process: Process, archive: Archive, warehouse: Warehouse, settings: Settings) -> None:
        self._process = process
        self._archive = archive
        self._warehouse = warehouse
        self._settings = settings
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="commit")
        self._free_threads = asyncio.Semaphore(MAX_THREADS)
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._waiting_bytes = 0
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._turned_away = 0
        self._flushes: set[asyncio.Task[None]] = set()
        self._archiving = 0
        self._begun = 0.0
        self._timer: asyncio.Handle | None = None

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
        self._take_in(1, size)
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
                    self._take_in(0, arrived - size)
                    size = arrived
                body.append(chunk)
        except TimeoutError:
            raise NotDurable(f"the request did not arrive within {RECEIVE_SECONDS:.0f} s") from None
        finally:
            self._in_flight -= 1
            self._in_flight_bytes -= size
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
        entry = _Waiting(message, message.size, time.monotonic(), loop.create_future())
        self._take_in(1, entry.size)
        self._waiting.append(entry)
        self._waiting_bytes += entry.size
        if len(self._flushes) < MAX_FLUSHES:
            if self._timer is None:
                self._timer = loop.call_soon(self._start_flushes)
            elif (self._flushes and len(self._waiting) == MANY) or self._is_full():
                self._start_flushes()
        reason = await entry.fate
        if reason is not None:
            raise NotDurable(reason)

    def _take_in(self, events: int, size: int) -> None:
        """Count an event, or more bytes of one that is in flight; whatever its size, one alone is taken."""
        settings = self._settings
        alone = self._in_flight + events == 1
        if self._in_flight + events > settings.max_in_flight or (
            not alone and self._in_flight_bytes + size > settings.max_in_flight_bytes
        ):
            self._turned_away += 1
            raise Overloaded(f"{self._in_flight} events, {self._in_flight_bytes} bytes in flight")
        self._in_flight += events
        self._in_flight_bytes += size

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._settings.batch_rows or self._waiting_bytes >= self._settings.batch_bytes

    def _start_flushes(self) -> None:
        """Start the flushes that may start; for the rest, come back when the oldest event has lingered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._flushes) < MAX_FLUSHES and self._archiving < MAX_ARCHIVING:
            if self._flushes and not self._is_full():
                remaining = self._moment() - time.monotonic()
                if remaining > 0:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(remaining, self._start_flushes)
                    return
            if batch := self._take():
                self._archiving += 1
                self._begun = time.monotonic()
                flush = asyncio.create_task(self._flush(batch))
                self._flushes.add(flush)
                flush.add_done_callback(self._flushed)

    def _moment(self) -> float:
        """When the next flush may begin beside those that run."""
        moments = [self._waiting[0].arrived + self._settings.linger_ms / 1000]
        if not self._archiving:
            moments.append(self._begun + INTERVAL)
        if len(self._waiting) >= MANY:
            moments.append(self._begun + INTERVAL_OF_MANY)
        return min(moments)

    def _flushed(self, flush: asyncio.Task[None]) -> None:
        self._flushes.discard(flush)
        self._start_flushes()

    def _take(self) -> list[_Waiting]:
        """The next batch, in order of arrival. Who has waited a whole flush's time is sent away instead."""
        batch: list[_Waiting] = []
        size = 0
        patience = time.monotonic() - self._settings.flush_timeout
        while self._waiting and len(batch) < self._settings.batch_rows:
            entry = self._waiting[0]
            if batch and size + entry.size > self._settings.batch_bytes:
                break
            self._waiting.popleft()
            self._waiting_bytes -= entry.size
            if entry.arrived < patience:
                self._release([entry])
                _settle(entry.fate, "no flush was free in time")
            else:
                batch.append(entry)
                size += entry.size
        return batch

    def _release(self, entries: Sequence[_Waiting]) -> None:
        self._in_flight -= len(entries)
        self._in_flight_bytes -= sum(entry.size for entry in entries)

    async def _flush(self, batch: Sequence[_Waiting]) -> None:
        """Process, archive, insert, and settle each event's fate."""
        started, now = time.monotonic(), utc_now()
        deadline = started + self._settings.flush_timeout
        name = self._archive.name(now)
        report = _Report(
            archive_uri=self._archive.uri(name),
            events=len(batch),
            message_bytes=sum(entry.size for entry in batch),
            wait_ms=_milliseconds(started - batch[0].arrived),
        )
        try:
            # The calls give up in time by themselves, but for an answer that comes byte by byte.
            async with asyncio.timeout(self._settings.flush_timeout):
                events = self._process_all(batch, now)
                report.archive_bytes = await self._write(name, events)
                archived = time.monotonic()
                report.archive_ms = _milliseconds(archived - started)
                await self._insert_all(events, report, deadline)
                report.insert_ms = _milliseconds(time.monotonic() - archived)
        except Exception as error:
            self._fail([entry.fate for entry in batch], log.reason(error), report)
        finally:
            self._release(batch)
            oldest = min(entry.message.publish_time for entry in batch)
            report.turned_away, self._turned_away = self._turned_away, 0
            report.lag_ms = _milliseconds((utc_now() - oldest).total_seconds())
            report.log()

    def _process_all(self, batch: Sequence[_Waiting], now: datetime) -> list[_Flushed]:
        """All in a row, while code and tables are at hand for the processor: that takes half the time of one by one."""
        events: list[_Flushed] = []
        for entry in batch:
            try:
                events.append(_Flushed(self._process(entry.message, now), entry.fate))
            except Exception as error:  # that nobody foresaw: its own request tells it
                if not entry.fate.done():
                    entry.fate.set_exception(error)
        return events

    async def _write(self, name: str, events: Sequence[_Flushed]) -> int:
        """Archive; then the next flush may start."""
        outcomes = [event.outcome for event in events]
        try:
            if not outcomes:
                return 0
            return await self._in_thread(self._archive.write, name, outcomes, self._settings.flush_timeout / 2)
        finally:
            self._archiving -= 1
            self._start_flushes()

    async def _insert_all(self, events: Sequence[_Flushed], report: _Report, deadline: float) -> None:
        """Insert into all tables at once; then the dead letters of the rows that BigQuery refused."""
        tables: dict[str, list[_Flushed]] = {}
        for event in events:
            tables.setdefault(event.outcome.table, []).append(event)
        refused = await asyncio.gather(*(self._insert(table, rows, report, deadline) for table, rows in tables.items()))
        dead_letters = [event for one in refused for event in one]
        if dead_letters:
            await self._insert(DeadLetter.table, dead_letters, report, deadline)

    async def _insert(self, table: str, events: Sequence[_Flushed], report: _Report, deadline: float) -> list[_Flushed]:
        """Insert into one table and settle what is durable; what is refused comes back as dead letters."""
        outcomes = [event.outcome for event in events]

        def insert() -> Insertion:
            records = [Record(one.message.event_id, one.encoded(report.archive_uri)) for one in outcomes]
            return self._warehouse.insert(table, records, deadline - time.monotonic())

        try:
            insertion = await self._in_thread(insert)
        except Exception as error:
            self._fail([event.fate for event in events], f"{table}: {log.reason(error)}", report)
            return []
        dead_letters: list[_Flushed] = []
        for index, event in enumerate(events):
            if reason := insertion.unfinished.get(index):
                self._fail([event.fate], reason, report)
            elif errors := insertion.refused.get(index):
                if isinstance(event.outcome, Row):
                    dead_letter = event.outcome.dead_letter(Stage.WAREHOUSE, errors, utc_now())
                    dead_letters.append(_Flushed(dead_letter, event.fate))
                else:
                    places = ", ".join(f"{path} {rule}" for path, rule, _ in errors)
                    self._fail([event.fate], f"{table} refused a row: {places}", report)
            else:
                report.count(event.outcome)
                _settle(event.fate)
        return dead_letters

    def _fail(self, fates: Iterable[_Fate], reason: str, report: _Report) -> None:
        if reason not in report.errors:
            report.errors.append(reason)
        for fate in fates:
            if not fate.done():
                report.not_durable += 1
                fate.set_result(reason)

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


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
