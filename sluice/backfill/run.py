"""The backfill loads events from files into the live and the historical tables, with load jobs, which are free."""

import collections
import dataclasses
import enum
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import requests
import urllib3
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from functions.archive.writer import Archive
from functions.core.dead_letters import DeadLetter, Stage, Violation
from functions.core.rows import Row
from functions.files.id_fields import NoEventId, WithoutId
from functions.files.sources import Line, Lines, Unreadable
from functions.ingest.http_client import ApiError
from sluice.backfill.chunks import MAX_LINES, Seen, TableLoad, chunks, loads
from sluice.backfill.events import Event, EventReader
from sluice.backfill.load_jobs import LoadJobs, Stopped

FAILURES = (GoogleAPIError, GoogleAuthError, requests.RequestException, ApiError, urllib3.exceptions.HTTPError)
"""Errors of the clients where Google Cloud rejects a request or does not answer."""

MAX_REJECTED_LINES = 100
"""Maximum rejected rows of a load that become dead letters. If there are more, the cause is the table or the code.

The reason for each row needs a job of its own, and the number of jobs per table and day is limited
(https://cloud.google.com/bigquery/quotas#load_jobs).
"""

_LOADS_AT_ONCE = 4
_MAX_FAILURES = 10
_ARCHIVE_SECONDS = 300.0

_PACED_SECONDS = 10.0
"""Seconds of lines in a load with a limited rate. Without a limit, a load has as many lines as fit."""


class Fate(enum.Enum):
    """The result for an event that is durable."""

    LOADED = enum.auto()
    """The event was loaded or, in a dry run, would be."""
    PRESENT = enum.auto()
    """The event was already present."""
    REPEATED = enum.auto()
    """An earlier line of the run has the same event, which is in its table."""
    SMOKE_TEST = enum.auto()
    """The event is one of the smoke test, which is not loaded again."""


class Settled(NamedTuple):
    """An event that is durable, would be in a dry run, or does not need to be; see `fate`.

    Attributes:
        event: The event.
        fate: The result for the event.
        archive_uri: Archive object with the line; None if unknown.
    """

    event: Event
    fate: Fate
    archive_uri: str | None


class RejectedEvent(NamedTuple):
    """An event whose row BigQuery rejects.

    Attributes:
        event: The event.
        archive_uri: Archive object with the line.
    """

    event: Event
    archive_uri: str

    def __str__(self) -> str:
        line = self.event.line
        return f"{line.source} line {line.number}, event {self.event.identity.event_id}"


class RowsRejected(Exception):
    """Raised when BigQuery rejects rows that cannot become dead letters; names the rows and the reason."""


class LoadFailed(Exception):
    """Reason of a load that failed, wholly or for some rows: names the load; its cause is the error of a client."""

    def __init__(self, load: object, error: Exception) -> None:
        super().__init__(f"{load}: {error}")
        self.__cause__ = error


type Listener = Callable[[Sequence[Settled]], object]
"""Called with events when they are durable, by several threads concurrently. An error of `FAILURES` that it raises
counts as a failure of their load. The events are durable nevertheless, and the next run reports them again."""


def call_in_order(listeners: Sequence[Listener]) -> Listener:
    """Return a listener that calls others in their order; an error of one ends the call."""

    def call_all(settled: Sequence[Settled]) -> None:
        for listener in listeners:
            listener(settled)

    return call_all


class RunningJob(NamedTuple):
    """A load job that is still running when the run ends.

    Attributes:
        job_id: Its id.
        load: Its table, and the lines that it is of.
        lines: Number of these lines.
    """

    job_id: str
    load: str
    lines: int


@dataclasses.dataclass(slots=True)
class BackfillReport:
    """Counts of a run. Every line that was read is in exactly one of the counts or in a running job.

    Attributes:
        events: Lines whose event no earlier line has.
        repeated: Lines whose event is in an earlier line.
        smoke_tests: Lines with events of the smoke test, which are skipped.
        without_id: Lines without the id of `--id-field`.
        same_id: Number of `events` with the id of an earlier line but different content.
        rounded_numbers: Number of numbers of the `events` that are rounded to the nine decimals of NUMERIC.
        rows: Rows that were loaded, by `DATASET.TABLE`.
        dead_letters: Dead letters that were loaded, by stage.
        rows_present: Rows that were already present, by `DATASET.TABLE`.
        dead_letters_present: Dead letters that were already present, by stage.
        running: Load jobs that are still running after an interruption.
        failures: Loads that failed, wholly or for some rows, and sources that could not be read, with the reason.
        interrupted: Whether the run was stopped before it was complete.
        complete_to: Last line up to which all events are in their tables, after an interruption.
    """

    events: int = 0
    repeated: int = 0
    smoke_tests: int = 0
    without_id: WithoutId = dataclasses.field(default_factory=WithoutId)
    same_id: int = 0
    rounded_numbers: int = 0
    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    dead_letters: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    rows_present: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    dead_letters_present: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    running: list[RunningJob] = dataclasses.field(default_factory=list)
    failures: list[LoadFailed | Unreadable] = dataclasses.field(default_factory=list)
    interrupted: bool = False
    complete_to: str | None = None

    @property
    def lines(self) -> int:
        """Number of lines that were read."""
        return self.events + self.repeated + self.smoke_tests + self.without_id.count

    @property
    def unfinished(self) -> int:
        """Number of lines of failed loads, or that the run has not reached."""
        counts = (self.rows, self.dead_letters, self.rows_present, self.dead_letters_present)
        done = sum(counter.total() for counter in counts)
        return self.events - done - sum(job.lines for job in self.running)

    @property
    def is_complete(self) -> bool:
        """Return whether all lines of all sources are in their tables."""
        return not (self.unfinished or self.running or self.failures or self.interrupted or self.without_id.count)

    def as_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        return {
            "lines": self.lines,
            **msgspec.to_builtins(self, enc_hook=str),
            "running": [job._asdict() for job in self.running],
            "unfinished": self.unfinished,
        }

    def count(self, settled: Iterable[Settled]) -> None:
        """Count events, none of which is `REPEATED` or `SMOKE_TEST`."""
        for event, fate, _ in settled:
            match event.outcome:
                case DeadLetter(stage=stage):
                    counter = self.dead_letters_present if fate is Fate.PRESENT else self.dead_letters
                    counter[stage.value] += 1
                case Row():
                    counter = self.rows_present if fate is Fate.PRESENT else self.rows
                    counter[event.table] += 1


class _Interrupted(Exception):
    """Raised when the run is stopped; has the present events and the job that may load the rest."""

    def __init__(self, settled: Sequence[Settled], running: RunningJob | None) -> None:
        super().__init__(settled, running)
        self.settled = settled
        self.running = running


@dataclasses.dataclass(slots=True)
class _Chunk:
    """Lines that were processed together.

    Attributes:
        last: Last line of the chunk.
        loads: Number of its loads that are not finished.
    """

    last: str
    loads: int


class Backfill:
    """A run of the backfill.

    Args:
        read: Converts the lines into events.
        jobs: Load jobs; None for a dry run without BigQuery, which treats no event as present.
        archive: The archive of raw events; None for a dry run, which writes nothing.
        listener: Called with events that are durable.
        rate: Maximum lines per second; None for no limit.
    """

    def __init__(
        self,
        read: EventReader,
        jobs: LoadJobs | None,
        archive: Archive | None,
        listener: Listener | None = None,
        rate: float | None = None,
    ) -> None:
        self._read = read
        self._jobs = jobs
        self._archive = archive
        self._listener = listener
        self._rate = rate
        self._seen = Seen()
        self._not_loaded: list[Settled] = []
        self._chunks: list[_Chunk] = []
        self._counting = threading.Lock()
        self._is_stopped = False
        self.report = BackfillReport()

    def __call__(self, sources: Iterable[Lines], advance: Callable[[int], object] = lambda _: None) -> BackfillReport:
        """Load all lines of all sources; several loads run while the next chunk is processed.

        Args:
            sources: The sources, in the order in which they are read.
            advance: Called now and then with how much was read since the last call; of a `Source`, stored bytes.

        Returns:
            The counts of the run, also if it was interrupted.
        """
        max_lines = max(1, min(MAX_LINES, round(self._rate * _PACED_SECONDS))) if self._rate else MAX_LINES
        is_read = is_told = False
        with futures.ThreadPoolExecutor(_LOADS_AT_ONCE, thread_name_prefix="load") as threads:
            running: set[futures.Future[None]] = set()
            try:
                for lines in chunks(self._paced(self._lines(sources, advance)), max_lines):
                    planned = self._plan(lines)
                    chunk = _Chunk(f"{lines[-1].source} line {lines[-1].number}", len(planned))
                    self._chunks.append(chunk)
                    for load in planned:
                        if len(running) == _LOADS_AT_ONCE:
                            running = _wait(running, futures.FIRST_COMPLETED)
                        running.add(threads.submit(self._load, load, chunk))
                    if len(self.report.failures) >= _MAX_FAILURES:
                        break
                is_read = True
                _wait(running, futures.ALL_COMPLETED)
                self._notify_of_not_loaded()
                is_told = True
            except KeyboardInterrupt:
                if self._jobs:
                    self._jobs.stop()
                _wait(running, futures.ALL_COMPLETED)
        # Where all was done by then, nothing was interrupted.
        self.report.interrupted = self._is_stopped or not is_read or not (is_told or not self._not_loaded)
        if self.report.interrupted:
            for chunk in itertools.takewhile(lambda chunk: not chunk.loads, self._chunks):
                self.report.complete_to = chunk.last
        return self.report

    def _lines(self, sources: Iterable[Lines], advance: Callable[[int], object]) -> Iterator[Line]:
        """Yield the lines of all sources; those before the damage for a damaged source."""
        for source in sources:
            if len(self.report.failures) >= _MAX_FAILURES:
                return
            try:
                yield from source.lines(advance)
            except Unreadable as error:
                self.report.failures.append(error)

    def _paced(self, lines: Iterable[Line]) -> Iterator[Line]:
        started = time.monotonic()
        for count, line in enumerate(lines):
            if self._rate:
                time.sleep(max(0.0, started + count / self._rate - time.monotonic()))
            yield line

    def _plan(self, lines: Sequence[Line]) -> list[TableLoad]:
        """Process the lines of a chunk, and group them by table."""
        new: list[Event] = []
        smoke_tests = repeated = 0
        for line in lines:
            try:
                event = self._read(line)
            except NoEventId as reason:
                self.report.without_id.add(line, reason)
                continue
            if self._read.is_smoke_test(line):
                smoke_tests += 1
                fate = Fate.SMOKE_TEST
            elif met := self._seen.new(event):
                new.append(met)
                continue
            else:
                repeated += 1
                fate = Fate.REPEATED
            if self._listener:
                self._not_loaded.append(Settled(event, fate, event.archive_uri))
        self.report.same_id += sum(1 for event in new if event.identity.message_id)
        self.report.rounded_numbers += sum(
            event.outcome.rounded_numbers for event in new if isinstance(event.outcome, Row)
        )
        # Each count stands by itself, wherever a signal interrupts.
        self.report.events += len(new)
        self.report.repeated += repeated
        self.report.smoke_tests += smoke_tests
        return loads(new)

    def _load(self, load: TableLoad, chunk: _Chunk) -> None:
        """Load the events of a load and count the results. Runs in a thread, which no signal interrupts."""
        settled: list[Settled] = []
        failure: LoadFailed | None = None
        try:
            self._bring_all(load, settled)
        except _Interrupted as stopped:
            settled += stopped.settled
            with self._counting:
                self._is_stopped = True
                self.report.running += [stopped.running] if stopped.running else []
        except (*FAILURES, RowsRejected) as error:
            failure = LoadFailed(load, error)
        with self._counting:
            self.report.count(settled)
            if failure:
                self.report.failures.append(failure)
            chunk.loads -= len(settled) == len(load.events)

    def _bring_all(self, load: TableLoad, settled: list[Settled]) -> None:
        """Load the events of a load; those that BigQuery rejects become dead letters.

        Args:
            load: The load.
            settled: Receives the events that are present and were reported.

        Raises:
            _Interrupted: The run was stopped before all events were loaded.
            RowsRejected: Some rows were not loaded.
        """
        brought, rejected_events = self._bring(load)
        self._notify(brought, settled)
        if self._jobs and rejected_events:
            others: list[Settled] = []
            try:
                self._bring_rejected(self._jobs, rejected_events, others)
            except _Interrupted:
                settled += others
                raise
            self._notify(others, settled)

    def _bring(self, load: TableLoad) -> tuple[list[Settled], list[RejectedEvent]]:
        """Load the events of a load. Return the events that are present and those that BigQuery rejects.

        Raises:
            _Interrupted: The run was stopped before all events were loaded.
        """
        if not self._jobs:
            return [Settled(event, Fate.LOADED, event.archive_uri) for event in load.events], []
        settled: list[Settled] = []
        missing: Sequence[Event] = load.events
        try:
            # The id first: what a job brings that takes it meanwhile is in the table by then, or in the way of ours.
            job_id = self._jobs.free_id(load)
            present = self._jobs.present(load)
            settled += [
                Settled(event, Fate.PRESENT, event.archive_uri) for event in load.events if event.identity in present
            ]
            missing = [event for event in load.events if event.identity not in present]
            if not (missing and self._archive):
                return [*settled, *(Settled(event, Fate.LOADED, event.archive_uri) for event in missing)], []
            self._jobs.go_on()
            with_objects = _archived(self._archive, missing, self._read.now)
            rejected_events: list[RejectedEvent] = []
            if not self._jobs.run(job_id, load.table, with_objects):
                taken = self._jobs.present(TableLoad(load.table, missing))
                rejected_events = [
                    RejectedEvent(event, uri) for event, uri in with_objects if event.with_message not in taken
                ]
        except Stopped as stopped:
            raise _Interrupted(settled, _running(stopped, load, len(missing))) from stopped
        left_out = {rejected.event.identity for rejected in rejected_events}
        loaded = (Settled(event, Fate.LOADED, uri) for event, uri in with_objects if event.identity not in left_out)
        return [*settled, *loaded], rejected_events

    def _bring_rejected(self, jobs: LoadJobs, rejected_events: Sequence[RejectedEvent], settled: list[Settled]) -> None:
        """Load events as dead letters that BigQuery rejected as a part of a load, unless it accepts them in isolation.

        Args:
            jobs: The load jobs.
            rejected_events: The events.
            settled: Receives the events that are present.

        Raises:
            _Interrupted: The run was stopped before all events were loaded.
            RowsRejected: The events cannot become dead letters.
        """
        letters: list[Event] = []
        too_many = len(rejected_events) > MAX_REJECTED_LINES
        for rejected in rejected_events[:1] if too_many else rejected_events:
            try:
                errors = jobs.rejection_reasons(*rejected)
            except Stopped as stopped:
                raise _Interrupted(
                    [], _running(stopped, TableLoad(rejected.event.table, [rejected.event]), 1)
                ) from stopped
            if errors and isinstance(rejected.event.outcome, Row) and not too_many:
                letters.append(self._dead_letter(rejected, rejected.event.outcome, errors))
            elif errors:
                raise RowsRejected(
                    f"BigQuery rejects {len(rejected_events)} rows, first {rejected}: {errors[0].message}"
                )
            else:
                settled.append(Settled(rejected.event, Fate.LOADED, rejected.archive_uri))
        if too_many:
            raise RowsRejected(
                f"{len(rejected_events)} rows were rejected, but the first is accepted in isolation:"
                f" {rejected_events[0]}"
            )
        if letters:
            there, again = self._bring(TableLoad(letters[0].table, letters))
            settled += there
            if again:
                raise RowsRejected(f"{len(again)} dead letters are rejected, first {again[0]}")

    def _dead_letter(self, rejected: RejectedEvent, row: Row, errors: Sequence[Violation]) -> Event:
        event = rejected.event
        letter = row.dead_letter(Stage.WAREHOUSE, errors, self._read.now)
        dead = self._read.dead_letter(event.line, letter, rejected.archive_uri)
        return dead._replace(identity=dead.identity._replace(message_id=event.identity.message_id))

    def _notify(self, brought: Sequence[Settled], settled: list[Settled]) -> None:
        """Report events that are present to the listener, and add them to `settled`."""
        if self._listener and brought:
            try:
                self._listener(brought)
            except Stopped as stopped:
                raise _Interrupted(brought, None) from stopped
        settled += brought

    def _notify_of_not_loaded(self) -> None:
        """Report the lines that need no load to the listener, after all events of earlier lines are durable."""
        if self._listener and self._not_loaded and not self.report.failures:
            try:
                self._listener(self._not_loaded)
            except FAILURES as error:
                self.report.failures.append(LoadFailed(f"{len(self._not_loaded)} lines that are not loaded", error))


def _wait(running: set[futures.Future[None]], until: str) -> set[futures.Future[None]]:
    """Wait for loads. Return those that are still running."""
    done, still = futures.wait(running, return_when=until)
    for future in done:
        future.result()
    return still


def _running(stopped: Stopped, load: TableLoad, lines: int) -> RunningJob | None:
    return RunningJob(stopped.job_id, str(load), lines) if stopped.job_id else None


def _archived(archive: Archive, events: Sequence[Event], now: datetime) -> list[tuple[Event, str]]:
    """Archive the events that are not in the archive yet. Return the archive object of each event."""
    name = archive.name(now)
    if outcomes := [event.outcome for event in events if event.archive_uri is None]:
        archive.write(name, outcomes, _ARCHIVE_SECONDS)
    return [(event, event.archive_uri or archive.uri(name)) for event in events]
