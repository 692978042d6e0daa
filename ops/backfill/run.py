"""The backfill: events of files into the live and the historical tables, by load jobs, which are free."""

import collections
import dataclasses
import enum
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from datetime import datetime
from typing import NamedTuple

import requests
import urllib3
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from functions.archive import Archive
from functions.dead_letter import DeadLetter, Stage
from functions.google_api import ApiError
from functions.row import Row
from ops.backfill.chunks import MAX_LINES, Load, Seen, chunks, loads
from ops.backfill.events import Event, EventReader, Identity
from ops.backfill.load_jobs import LoadJobs, Stopped
from ops.backfill.sources import Line, Lines, Unreadable

FAILURES = (GoogleAPIError, GoogleAuthError, requests.RequestException, ApiError, urllib3.exceptions.HTTPError)
"""What the clients raise where Google Cloud refuses or does not answer."""

MAX_REFUSED = 100
"""Rows of a load that are refused for what they are; of more, the table or the code is the cause.

To ask why takes a job for each, and a table takes a limited number of them a day
(https://cloud.google.com/bigquery/quotas#load_jobs).
"""

_LOADS_AT_ONCE = 4
_MAX_FAILURES = 10
_ARCHIVE_SECONDS = 300.0

_PACED_SECONDS = 10.0
"""Of lines in a load, where they come at a rate; at full speed there are as many as fit."""


class Fate(enum.Enum):
    """What has become of an event that is durable."""

    LOADED = enum.auto()
    """It is in its table now; in a dry run: it would be."""
    PRESENT = enum.auto()
    """It was there before."""
    REPEATED = enum.auto()
    """An earlier line of the run has the same event, and that one is in the table."""
    SMOKE_TEST = enum.auto()
    """It is an event of the smoke test, which no table gets again."""


class Settled(NamedTuple):
    """An event that is durable, or in a dry run: that would be; or that has not to be, as `fate` says.

    Attributes:
        event: The event.
        fate: How it came to that.
        archive_uri: The object of the archive that its line is in; None where no object is known to be.
    """

    event: Event
    fate: Fate
    archive_uri: str | None


class Refused(NamedTuple):
    """An event whose row BigQuery refuses.

    Attributes:
        event: The event.
        archive_uri: The object of the archive that its line is in.
    """

    event: Event
    archive_uri: str

    def __str__(self) -> str:
        line = self.event.line
        return f"{line.source} line {line.number}, event {self.event.identity.event_id}"


class RowsRefused(Exception):
    """BigQuery refuses rows, and they cannot be dead letters; says which and why."""


type Listener = Callable[[Sequence[Settled]], object]
"""Is told of events as soon as they are durable; called in several threads at once. What it raises of `FAILURES` is
the failure of their load: they are durable all the same, and the next run tells of them again."""


@dataclasses.dataclass(slots=True)
class Report:
    """What has become of the lines; every line that was read is in exactly one of the counts.

    Attributes:
        lines: Lines read.
        repeated: Lines whose event stands in an earlier line.
        smoke_tests: Lines with events of the smoke test, which are left out.
        rows: Rows that were loaded, by `DATASET.TABLE`.
        dead_letters: Dead letters that were loaded, by stage.
        rows_present: Rows that were there before, by `DATASET.TABLE`.
        dead_letters_present: Dead letters that were there before, by stage.
        failures: Which loads failed, wholly or for some rows, or which source could not be read, and why.
        interrupted: Whether the run was told to stop.
    """

    lines: int = 0
    repeated: int = 0
    smoke_tests: int = 0
    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    dead_letters: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    rows_present: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    dead_letters_present: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: list[str] = dataclasses.field(default_factory=list)
    interrupted: bool = False

    @property
    def unfinished(self) -> int:
        """Lines that a load that failed has not brought, or that the run did not come to."""
        counts = (self.rows, self.dead_letters, self.rows_present, self.dead_letters_present)
        return self.lines - self.repeated - self.smoke_tests - sum(counter.total() for counter in counts)

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


class _Done(NamedTuple):
    """What has become of a load: what is durable of it, and why not all, if so."""

    settled: Sequence[Settled]
    failure: str | None = None


class Backfill:
    """One run.

    Args:
        read: Reads the lines.
        jobs: Loads what is not there; None to take nothing for being there, in a dry run without BigQuery.
        archive: Where raw events are kept; None for a dry run, which writes nothing.
        listener: Is told of events that are durable.
        rate: Lines per second at most; None for as fast as they can be read.
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
        self.report = Report()

    def __call__(self, sources: Iterable[Lines], advance: Callable[[int], object] = lambda _: None) -> Report:
        """Load all lines of all sources, a few loads at once while the next chunk is processed.

        Args:
            sources: In the order in which they are read.
            advance: Called now and then with how much was read since the last call; of a `Source`, stored bytes.

        Returns:
            What was done, also where it was interrupted.
        """
        max_lines = max(1, min(MAX_LINES, round(self._rate * _PACED_SECONDS))) if self._rate else MAX_LINES
        with futures.ThreadPoolExecutor(_LOADS_AT_ONCE, thread_name_prefix="load") as threads:
            running: dict[futures.Future[_Done], Load] = {}
            try:
                for chunk in chunks(self._paced(self._lines(sources, advance)), max_lines):
                    for load in self._plan(chunk):
                        if len(running) == _LOADS_AT_ONCE:
                            self._settle(running, futures.FIRST_COMPLETED)
                        running[threads.submit(self._load, load)] = load
                    if len(self.report.failures) >= _MAX_FAILURES:
                        break
                self._settle(running, futures.ALL_COMPLETED)
                self._tell_not_loaded()
            except KeyboardInterrupt:
                self.report.interrupted = True
                if self._jobs:
                    self._jobs.stop()
                self._settle(running, futures.ALL_COMPLETED)
        return self.report

    def _lines(self, sources: Iterable[Lines], advance: Callable[[int], object]) -> Iterator[Line]:
        """The lines of all sources; of a damaged one those before the damage."""
        for source in sources:
            if len(self.report.failures) >= _MAX_FAILURES:
                return
            try:
                yield from source.lines(advance)
            except Unreadable as error:
                self.report.failures.append(str(error))

    def _paced(self, lines: Iterable[Line]) -> Iterator[Line]:
        started = time.monotonic()
        for count, line in enumerate(lines):
            if self._rate:
                time.sleep(max(0.0, started + count / self._rate - time.monotonic()))
            yield line

    def _plan(self, chunk: Sequence[Line]) -> list[Load]:
        """Process the lines of a chunk, and sort them by their tables."""
        new: list[Event] = []
        for line in chunk:
            event = self._read(line)
            if self._read.is_smoke_test(line):
                self.report.smoke_tests += 1
                fate = Fate.SMOKE_TEST
            elif self._seen.is_new(event):
                new.append(event)
                continue
            else:
                self.report.repeated += 1
                fate = Fate.REPEATED
            if self._listener:
                self._not_loaded.append(Settled(event, fate, event.archive_uri))
        self.report.lines += len(chunk)
        return loads(new)

    def _load(self, load: Load) -> _Done:
        """Bring a load into its table, and what BigQuery refuses of it to the dead letters. Runs in a thread."""
        settled, refused = self._bring(load)
        self._tell(settled)
        if not (self._jobs and refused):
            return _Done(settled)
        try:
            others = self._bring_refused(self._jobs, refused)
            self._tell(others)
        except Stopped:
            return _Done(settled)
        except (*FAILURES, RowsRefused) as error:
            return _Done(settled, str(error))
        return _Done([*settled, *others])

    def _bring(self, load: Load) -> tuple[list[Settled], list[Refused]]:
        """Bring a load into its table: what is there, and what BigQuery refuses."""
        present: set[Identity] = set()
        archived: dict[Identity, str] = {}
        refused: dict[Identity, Refused] = {}
        if self._jobs:
            # The id first: what a job brings that takes it meanwhile is in the table by then, or in the way of ours.
            job_id = self._jobs.free_id(load)
            present = self._jobs.present(load)
            missing = [event for event in load.events if event.identity not in present]
            if missing and self._archive:
                with_objects = _archived(self._archive, missing, self._read.now)
                if not self._jobs.run(job_id, load.table, with_objects):
                    taken = self._jobs.present(Load(load.table, missing))
                    refused = {
                        one.identity: Refused(one, uri) for one, uri in with_objects if one.identity not in taken
                    }
                archived = {event.identity: archive_uri for event, archive_uri in with_objects}
        settled = [_settled(event, present, archived) for event in load.events if event.identity not in refused]
        return settled, [*refused.values()]

    def _bring_refused(self, jobs: LoadJobs, refused: Sequence[Refused]) -> list[Settled]:
        """Bring events that BigQuery refused among others to the dead letters, or after all into their table.

        Raises:
            RowsRefused: They cannot be dead letters.
        """
        settled: list[Settled] = []
        letters: list[Event] = []
        too_many = len(refused) > MAX_REFUSED
        for one in refused[:1] if too_many else refused:
            errors = jobs.refusal(*one)
            if errors and isinstance(one.event.outcome, Row) and not too_many:
                letter = one.event.outcome.dead_letter(Stage.WAREHOUSE, errors, self._read.now)
                letters.append(self._read.dead_letter(one.event.line, letter, one.archive_uri))
            elif errors:
                raise RowsRefused(f"BigQuery refuses {len(refused)} rows, the first is {one}: {errors[0].message}")
            else:
                settled.append(Settled(one.event, Fate.LOADED, one.archive_uri))
        if too_many:
            raise RowsRefused(f"{len(refused)} rows were refused, and the first is not any more: {refused[0]}")
        if letters:
            there, again = self._bring(Load(letters[0].table, letters))
            settled += there
            if again:
                raise RowsRefused(f"{len(again)} dead letters are refused, the first is of {again[0]}")
        return settled

    def _tell(self, settled: Sequence[Settled]) -> None:
        if self._listener and settled:
            self._listener(settled)

    def _tell_not_loaded(self) -> None:
        """Tell of the lines that no load has, once all events are durable that earlier lines had."""
        if self._listener and self._not_loaded and not self.report.failures:
            try:
                self._listener(self._not_loaded)
            except FAILURES as error:
                self.report.failures.append(f"{len(self._not_loaded)} lines that no load has: {error}")

    def _settle(self, running: dict[futures.Future[_Done], Load], until: str) -> None:
        """Wait for loads, and count what they did."""
        for done in futures.wait(running, return_when=until).done:
            load = running.pop(done)
            try:
                settled, failure = done.result()
            except Stopped:
                continue
            except FAILURES as error:
                settled, failure = [], str(error)
            self.report.count(settled)
            if failure:
                self.report.failures.append(f"{load}: {failure}")


def _settled(event: Event, present: set[Identity], archived: dict[Identity, str]) -> Settled:
    fate = Fate.PRESENT if event.identity in present else Fate.LOADED
    return Settled(event, fate, event.archive_uri or archived.get(event.identity))


def _archived(archive: Archive, events: Sequence[Event], now: datetime) -> list[tuple[Event, str]]:
    """Archive the events that no object of the archive has yet; gives the object of each."""
    name = archive.name(now)
    if outcomes := [event.outcome for event in events if event.archive_uri is None]:
        archive.write(name, outcomes, _ARCHIVE_SECONDS)
    return [(event, event.archive_uri or archive.uri(name)) for event in events]
