"""The backfill: events of files into the live and the historical tables, by load jobs, which are free."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from datetime import datetime

import requests
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from functions.archive import Archive
from functions.dead_letter import DeadLetter
from functions.row import Row
from ops.backfill.chunks import Load, Seen, chunks, loads
from ops.backfill.events import Event, EventReader, Identity
from ops.backfill.load_jobs import LoadJobs, Stopped
from ops.backfill.sources import Line, Source, Unreadable

FAILURES = (GoogleAPIError, GoogleAuthError, requests.RequestException)
"""What the clients raise where Google Cloud refuses or does not answer."""

_LOADS_AT_ONCE = 4
_MAX_FAILURES = 10
_ARCHIVE_SECONDS = 300.0


@dataclasses.dataclass(slots=True)
class Report:
    """What has become of the lines; every line that was read is in exactly one of the counts.

    Attributes:
        lines: Lines read.
        repeated: Lines whose event stands in an earlier line.
        rows: Rows that were loaded, by `DATASET.TABLE`.
        dead_letters: Dead letters that were loaded, by stage.
        rows_present: Rows that were there before, by `DATASET.TABLE`.
        dead_letters_present: Dead letters that were there before, by stage.
        failures: Which loads failed, or which source could not be read, and why.
        interrupted: Whether the run was told to stop.
    """

    lines: int = 0
    repeated: int = 0
    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    dead_letters: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    rows_present: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    dead_letters_present: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: list[str] = dataclasses.field(default_factory=list)
    interrupted: bool = False

    @property
    def unfinished(self) -> int:
        """Lines of loads that failed, or that the run did not come to."""
        counts = (self.rows, self.dead_letters, self.rows_present, self.dead_letters_present)
        return self.lines - self.repeated - sum(counter.total() for counter in counts)

    def count(self, load: Load, present: set[Identity]) -> None:
        """Count the events of a load; those that are `present` were there before."""
        for event in load.events:
            match event.outcome:
                case DeadLetter(stage=stage):
                    counter = self.dead_letters_present if event.identity in present else self.dead_letters
                    counter[stage.value] += 1
                case Row():
                    counter = self.rows_present if event.identity in present else self.rows
                    counter[load.table] += 1


class Backfill:
    """One run.

    Args:
        read: Reads the lines.
        jobs: Loads what is not there; None to take nothing for being there, in a dry run without BigQuery.
        archive: Where raw events are kept; None for a dry run, which writes nothing.
    """

    def __init__(self, read: EventReader, jobs: LoadJobs | None, archive: Archive | None) -> None:
        self._read = read
        self._jobs = jobs
        self._archive = archive
        self._seen = Seen()
        self.report = Report()

    def __call__(self, sources: Iterable[Source], advance: Callable[[int], object] = lambda _: None) -> Report:
        """Load all lines of all sources, a few loads at once while the next chunk is processed.

        Args:
            sources: In the order in which they are read.
            advance: Called now and then with the number of stored bytes that were read since the last call.

        Returns:
            What was done, also where it was interrupted.
        """
        with futures.ThreadPoolExecutor(_LOADS_AT_ONCE, thread_name_prefix="load") as threads:
            running: dict[futures.Future[set[Identity]], Load] = {}
            try:
                for chunk in chunks(self._lines(sources, advance)):
                    for load in self._plan(chunk):
                        if len(running) == _LOADS_AT_ONCE:
                            self._settle(running, futures.FIRST_COMPLETED)
                        running[threads.submit(self._load, load)] = load
                    if len(self.report.failures) >= _MAX_FAILURES:
                        break
                self._settle(running, futures.ALL_COMPLETED)
            except KeyboardInterrupt:
                self.report.interrupted = True
                if self._jobs:
                    self._jobs.stop()
                self._settle(running, futures.ALL_COMPLETED)
        return self.report

    def _lines(self, sources: Iterable[Source], advance: Callable[[int], object]) -> Iterator[Line]:
        """The lines of all sources; of a damaged one those before the damage."""
        for source in sources:
            try:
                yield from source.lines(advance)
            except Unreadable as error:
                self.report.failures.append(str(error))

    def _plan(self, chunk: Sequence[Line]) -> list[Load]:
        """Process the lines of a chunk, and sort them by their tables."""
        new = [event for event in map(self._read, chunk) if self._seen.is_new(event)]
        self.report.lines += len(chunk)
        self.report.repeated += len(chunk) - len(new)
        return loads(new)

    def _load(self, load: Load) -> set[Identity]:
        """Bring a load into its table; gives what was there before. Runs in a thread."""
        if self._jobs is None:
            return set()
        # The id first: what a job brings that takes it meanwhile is in the table by then, or in the way of ours.
        job_id = self._jobs.free_id(load)
        present = self._jobs.present(load)
        missing = [event for event in load.events if event.identity not in present]
        if missing and self._archive:
            archived = _archived(self._archive, missing, self._read.now)
            self._jobs.run(job_id, load, archived)
        return present

    def _settle(self, running: dict[futures.Future[set[Identity]], Load], until: str) -> None:
        """Wait for loads, and count what they did."""
        for done in futures.wait(running, return_when=until).done:
            load = running.pop(done)
            try:
                self.report.count(load, done.result())
            except Stopped:
                continue
            except FAILURES as error:
                self.report.failures.append(f"{load}: {error}")


def _archived(archive: Archive, events: Sequence[Event], now: datetime) -> list[tuple[Event, str]]:
    """Archive the events that no object of the archive has yet; gives the object of each."""
    name = archive.name(now)
    if outcomes := [event.outcome for event in events if event.archive_uri is None]:
        archive.write(name, outcomes, _ARCHIVE_SECONDS)
    return [(event, event.archive_uri or archive.uri(name)) for event in events]
