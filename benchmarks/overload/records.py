"""Records of an overload run, as they are kept in `results/`, and what follows from them."""

import pathlib
from collections.abc import Iterator, Sequence

import msgspec

from benchmarks.machine import Machine

FOLDER = pathlib.Path(__file__).parents[1] / "results"
FILE = FOLDER / "overload.json"
FILE_BEFORE = FOLDER / "overload-before.json"
"""Another run's records, kept for comparison: of the code before the group commit followed the services."""

RECOVERED_SHARE = 0.95
"""Minimum goodput as a share of the offered load; the offered load counts as recovered from there on."""
RECOVERY_SECONDS = 30.0
"""Maximum seconds from the end of a disturbance until goodput has recovered."""
WINDOW = 5.0
"""Seconds over which goodput is averaged."""
MAX_ROWS_PER_EVENT = 1.5
"""Maximum rows in insert requests for each distinct row."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """The state at a time; all but `in_flight`, `backlog` and the queues counts from the start.

    Attributes:
        at: Seconds from the start.
        offered: Messages that were published.
        acknowledged: Messages that were acknowledged.
        deliveries: Deliveries.
        in_flight: Deliveries in flight.
        backlog: Messages that are neither acknowledged nor in flight.
        rejected: Answers other than 2xx by status; 0: none.
        insert_rows: Rows of the insert requests that arrived.
        written_rows: Rows of those that were served.
        distinct_rows: Different insert ids of these rows.
        objects: Uploads that were served.
        queued_inserts: Insert requests that wait to be served.
        queued_uploads: Uploads that wait to be served.
        abandoned: Requests that were served after their client had closed the connection.
    """

    at: float
    offered: int
    acknowledged: int
    deliveries: int
    in_flight: int
    backlog: int
    rejected: dict[int, int]
    insert_rows: int
    written_rows: int
    distinct_rows: int
    objects: int
    queued_inserts: int
    queued_uploads: int
    abandoned: int


class PhaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A phase of a scenario.

    Attributes:
        name: Name of the phase.
        start: Seconds from the start.
        end: The same.
        is_disturbed: Whether something was wrong.
        goodput: Events per second that were acknowledged.
        recovered_after: For a phase that follows a disturbance: seconds until goodput had recovered; None: it had not.
    """

    name: str
    start: float
    end: float
    is_disturbed: bool
    goodput: float
    recovered_after: float | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Record of a scenario.

    Attributes:
        scenario: Name of the scenario.
        pace: Factor on all times; 1 but for a quick run.
        rate: Events per second that were offered.
        settings: Environment variables of the function.
        phases: The phases, without the one in which the backlog is drained.
        samples: One each second, and one when the backlog was drained.
        drain_seconds: Seconds after the last phase until all messages were acknowledged; None: they were not.
        lost: Acknowledged events that are in no row or in no object.
    """

    scenario: str
    pace: float
    rate: float
    settings: dict[str, str]
    phases: list[PhaseRecord]
    samples: list[Sample]
    drain_seconds: float | None
    lost: int

    @property
    def last(self) -> Sample:
        """The state at the end."""
        return self.samples[-1]

    @property
    def rows_per_event(self) -> float | None:
        """Rows in insert requests for each distinct row; None if there is no row."""
        return self.last.insert_rows / self.last.distinct_rows if self.last.distinct_rows else None

    def missed(self) -> Iterator[str]:
        """Give each criterion that was missed, as a sentence."""
        for phase in self.phases:
            limit = RECOVERY_SECONDS * self.pace
            if _is_recovery(phase, self.phases) and (phase.recovered_after is None or phase.recovered_after > limit):
                yield f"{phase.name}: goodput did not recover within {limit:g} s"
        rows = self.rows_per_event
        if rows is None or rows >= MAX_ROWS_PER_EVENT:
            shown = "no row was written" if rows is None else f"{rows:.2f} rows were inserted for each distinct row"
            yield f"{shown}; allowed are less than {MAX_ROWS_PER_EVENT}"
        if self.last.acknowledged < self.last.offered:
            yield f"{self.last.acknowledged} of {self.last.offered} messages were acknowledged"
        if self.lost:
            yield f"{self.lost} acknowledged events were lost"


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a run.

    Attributes:
        started: Time at which the run began, ISO 8601.
        revision: Revision of the code that was served, if git knows it.
        machine: Machine of the run.
        records: The scenarios.
    """

    started: str
    revision: str
    machine: Machine
    records: list[Record]

    def of(self, scenario: str) -> Record | None:
        """Return the record of a scenario, if it was run."""
        return next((record for record in self.records if record.scenario == scenario), None)

    def write(self, file: pathlib.Path) -> None:
        """Keep the records."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(self) + b"\n")


def read(file: pathlib.Path) -> Records:
    """Return the records of an earlier run."""
    return msgspec.json.decode(file.read_bytes(), type=Records)


def _is_recovery(phase: PhaseRecord, phases: Sequence[PhaseRecord]) -> bool:
    before = phases[: phases.index(phase)]
    return bool(before) and before[-1].is_disturbed and not phase.is_disturbed


def goodput(samples: Sequence[Sample], start: float, end: float) -> float:
    """Return the events acknowledged per second between two times."""
    return (_acknowledged(samples, end) - _acknowledged(samples, start)) / (end - start)


def _acknowledged(samples: Sequence[Sample], at: float) -> float:
    """Return the events acknowledged until a time; linear between two samples."""
    before = max((sample for sample in samples if sample.at <= at), key=lambda sample: sample.at, default=samples[0])
    after = min((sample for sample in samples if sample.at >= at), key=lambda sample: sample.at, default=samples[-1])
    if after.at <= before.at:
        return before.acknowledged
    share = (at - before.at) / (after.at - before.at)
    return before.acknowledged + share * (after.acknowledged - before.acknowledged)


def recovered_after(
    samples: Sequence[Sample], start: float, end: float, rate: float, window: float = WINDOW
) -> float | None:
    """Return the seconds from the end of a disturbance until goodput has recovered; None if it has not.

    Goodput has recovered at a time if its mean over the next `window` seconds, and its mean over all of the time until
    `end`, are both at least `RECOVERED_SHARE` of the offered load.

    Args:
        samples: The whole run's.
        start: End of the disturbance.
        end: End of the time that is watched.
        rate: Events per second that are offered.
        window: Seconds over which goodput is averaged.
    """
    least = RECOVERED_SHARE * rate
    for at in [start, *(sample.at for sample in samples if start < sample.at <= end - window)]:
        if at + window <= end and min(goodput(samples, at, at + window), goodput(samples, at, end)) >= least:
            return at - start
    return None
