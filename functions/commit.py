"""The group commit: events in flight together share one archive object and one insert per table.

All concurrency of the ingest function lives here.
"""

import asyncio
import collections
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from functions import log
from functions.archive import Archive
from functions.dead_letter import DeadLetter, Stage
from functions.google_api import CONNECTIONS
from functions.message import MAX_REQUEST_BYTES, NotAMessage
from functions.process import utc_now
from functions.row import Row
from functions.settings import Settings
from functions.warehouse import Insertion, Record, Warehouse

_MAX_FLUSHES = 2
"""At once."""

_LINGER_BESIDE_ARCHIVED = 0.05
"""Seconds that events wait for a flush that is in the archive: most of what a quicker one would save is its batch."""

MAX_THREADS = CONNECTIONS
"""Two flushes into four tables each use 8."""

RECEIVE_SECONDS = 5.0
"""That a request has to arrive, once it has begun."""

logger = logging.getLogger(__name__)

type Outcome = Row | DeadLetter

type NextChunk = Callable[[], Coroutine[None, None, tuple[bytes, bool]]]
"""Gives the next bytes of a request's body, and whether there are more."""


class Overloaded(Exception):
    """Too many events are in flight; nothing was done with this one."""


class NotDurable(Exception):
    """The event is not known to be durable and must be delivered again."""


class _Entry(msgspec.Struct, eq=False):
    """An event in flight. `fate` is resolved with None when it is durable, else with the reason why not."""

    outcome: Outcome
    size: int
    arrived: float
    fate: asyncio.Future[str | None]

    def settle(self, reason: str | None = None) -> None:
        if not self.fate.done():
            self.fate.set_result(reason)


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

    With nothing in flight an event is flushed at once. Otherwise it waits for the running flush to be in the archive,
    for the batch to be full, or for `linger_ms`, whatever comes first; at most two flushes run.
    """

    def __init__(self, archive: Archive, warehouse: Warehouse, settings: Settings) -> None:
        self._archive = archive
        self._warehouse = warehouse
        self._settings = settings
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="commit")
        self._free_threads = asyncio.Semaphore(MAX_THREADS)
        self._waiting: collections.deque[_Entry] = collections.deque()
        self._waiting_bytes = 0
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._turned_away = 0
        self._flushes: set[asyncio.Task[None]] = set()
        self._archiving = 0
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
        return b"".join(body)

    async def __call__(self, outcome: Outcome) -> None:
        """Return when the event is archived and in its table, or a dead letter in theirs.

        If the caller is cancelled, its event is flushed all the same.

        Raises:
            Overloaded: Too much is in flight.
            NotDurable: Cloud Storage or BigQuery did not take the event in time.
        """
        loop = asyncio.get_running_loop()
        entry = _Entry(outcome, outcome.message.size, time.monotonic(), loop.create_future())
        self._take_in(1, entry.size)
        self._waiting.append(entry)
        self._waiting_bytes += entry.size
        if len(self._flushes) < _MAX_FLUSHES:
            if self._timer is None:
                self._timer = loop.call_soon(self._start_flushes)
            elif self._is_full():
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
        while self._waiting and len(self._flushes) < _MAX_FLUSHES:
            if self._flushes and not self._is_full():
                linger = self._settings.linger_ms / 1000
                if not self._archiving:
                    linger = min(linger, _LINGER_BESIDE_ARCHIVED)
                remaining = self._waiting[0].arrived + linger - time.monotonic()
                if remaining > 0:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(remaining, self._start_flushes)
                    return
            if batch := self._take():
                self._archiving += 1
                flush = asyncio.create_task(self._flush(batch))
                self._flushes.add(flush)
                flush.add_done_callback(self._flushed)

    def _flushed(self, flush: asyncio.Task[None]) -> None:
        self._flushes.discard(flush)
        self._start_flushes()

    def _take(self) -> list[_Entry]:
        """The next batch, in order of arrival. Who has waited a whole flush's time is sent away instead."""
        batch: list[_Entry] = []
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
                entry.settle("no flush was free in time")
            else:
                batch.append(entry)
                size += entry.size
        return batch

    def _release(self, entries: Sequence[_Entry]) -> None:
        self._in_flight -= len(entries)
        self._in_flight_bytes -= sum(entry.size for entry in entries)

    async def _flush(self, batch: list[_Entry]) -> None:
        """Archive, then insert, then settle each event's fate."""
        started = time.monotonic()
        deadline = started + self._settings.flush_timeout
        name = self._archive.name(utc_now())
        report = _Report(
            archive_uri=self._archive.uri(name),
            events=len(batch),
            message_bytes=sum(entry.size for entry in batch),
            wait_ms=_milliseconds(started - batch[0].arrived),
        )
        try:
            # The clients give up in time by themselves, but for an answer that comes byte by byte.
            async with asyncio.timeout(self._settings.flush_timeout):
                report.archive_bytes = await self._write(name, batch)
                archived = time.monotonic()
                report.archive_ms = _milliseconds(archived - started)
                await self._insert_all(batch, report, deadline)
                report.insert_ms = _milliseconds(time.monotonic() - archived)
        except Exception as error:
            self._fail(batch, log.reason(error), report)
        finally:
            self._release(batch)
            oldest = min(entry.outcome.message.publish_time for entry in batch)
            report.turned_away, self._turned_away = self._turned_away, 0
            report.lag_ms = _milliseconds((utc_now() - oldest).total_seconds())
            report.log()

    async def _write(self, name: str, batch: Sequence[_Entry]) -> int:
        """Archive; then the next flush may start."""
        outcomes = [entry.outcome for entry in batch]
        try:
            size = await self._in_thread(self._archive.write, name, outcomes, self._settings.flush_timeout / 2)
        finally:
            self._archiving -= 1
        self._start_flushes()
        return size

    async def _insert_all(self, batch: Sequence[_Entry], report: _Report, deadline: float) -> None:
        """Insert into all tables at once; then the dead letters of the rows that BigQuery refused."""
        tables: dict[str, list[_Entry]] = {}
        for entry in batch:
            tables.setdefault(entry.outcome.table, []).append(entry)
        refused = await asyncio.gather(
            *(self._insert(table, entries, report, deadline) for table, entries in tables.items())
        )
        dead_letters = [entry for entries in refused for entry in entries]
        if dead_letters:
            await self._insert(DeadLetter.table, dead_letters, report, deadline)

    async def _insert(self, table: str, entries: Sequence[_Entry], report: _Report, deadline: float) -> list[_Entry]:
        """Insert into one table and settle what is durable; the refused entries come back as dead letters."""

        def insert() -> Insertion:
            records = [
                Record(entry.outcome.message.event_id, entry.outcome.encoded(report.archive_uri)) for entry in entries
            ]
            return self._warehouse.insert(table, records, deadline - time.monotonic())

        try:
            insertion = await self._in_thread(insert)
        except Exception as error:
            self._fail(entries, f"{table}: {log.reason(error)}", report)
            return []
        dead_letters: list[_Entry] = []
        for index, entry in enumerate(entries):
            if reason := insertion.unfinished.get(index):
                self._fail([entry], reason, report)
            elif errors := insertion.refused.get(index):
                if isinstance(entry.outcome, Row):
                    entry.outcome = entry.outcome.dead_letter(Stage.WAREHOUSE, errors, utc_now())
                    dead_letters.append(entry)
                else:
                    places = ", ".join(f"{path} {rule}" for path, rule, _ in errors)
                    self._fail([entry], f"{table} refused a row: {places}", report)
            else:
                report.count(entry.outcome)
                entry.settle()
        return dead_letters

    def _fail(self, entries: Sequence[_Entry], reason: str, report: _Report) -> None:
        if reason not in report.errors:
            report.errors.append(reason)
        for entry in entries:
            if not entry.fate.done():
                report.not_durable += 1
                entry.settle(reason)

    async def _in_thread[Result](self, call: Callable[..., Result], *arguments: object) -> Result:
        """Call it as soon as a thread is free: a call that nobody waits for any more keeps its own until it ends."""
        await self._free_threads.acquire()
        loop = asyncio.get_running_loop()
        running = self._threads.submit(call, *arguments)

        def free(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before the call
                loop.call_soon_threadsafe(self._free_threads.release)

        running.add_done_callback(free)
        return await asyncio.wrap_future(running)


def _check_length(size: int) -> None:
    if size > MAX_REQUEST_BYTES:
        raise NotAMessage(f"not a Pub/Sub push: more than {MAX_REQUEST_BYTES} bytes")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
