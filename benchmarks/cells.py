"""Cells: one implementation under one load, once; measured, and checked for lost events."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.events import Kind
from benchmarks.load import Closed, Driven, Open
from benchmarks.servers import Name, Server
from benchmarks.stand_in import StandIn
from fake_google.metered import Counts

type Drive = Callable[[str, Kind, Closed | Open], Driven]

SUSTAINED_SHARE = 0.99
SUSTAINED_P99 = 1.0

GENERATOR_LIMIT = 0.95
"""Minimum share of its core at which the load generator may limit a rate."""


class LostEvents(AssertionError):
    """An acknowledged event is in no table, or a row came from nowhere: whatever was measured is worth nothing."""


class WorkerReplaced(RuntimeError):
    """A process of the function ended during a measurement: the CPU that it used is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """A load that an implementation is measured with.

    Attributes:
        name: Unique name of the scenario.
        load: Arrival of the requests.
        insert_ms: Milliseconds that BigQuery takes.
        upload_ms: Milliseconds that Cloud Storage takes.
        kind: Kind of the events.
        of: Implementations that it is for.
    """

    name: str
    load: Closed | Open
    insert_ms: float
    upload_ms: float
    kind: Kind = "mixed"
    of: Sequence[Name] = ("plain", "sluice")


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """Measurement of an implementation in a scenario.

    Attributes:
        scenario: Name of the scenario.
        of: The implementation.
        repetition: Number of the repetition, from 1.
        rate: Events per second that arrived, in an open loop.
        events_per_second: Answered 2xx.
        share: Share of what arrived that was answered 2xx within the run.
        p50: Seconds of latency; null where as many were not answered.
        p99: The same.
        p999: The same.
        acknowledged: Events answered 2xx in all; what follows is of 10 000 of them, and null if there are none.
        cpu: Seconds of CPU of the function.
        calls: Calls to BigQuery and Cloud Storage.
        uploads: Number of objects.
        upload_bytes: Bytes sent to Cloud Storage.
        insert_bytes: Bytes sent to BigQuery.
        billed_row_bytes: Bytes of rows, each with the least that BigQuery bills.
        peak_memory: Maximum bytes of the worker; null where the kernel cannot measure it for a single cell.
        rejected: Answers other than 2xx by status; 0: none.
        resent: Requests sent again, since the server had closed an idle connection.
        generator_busy: Share of its core that the load generator used.
    """

    scenario: str
    of: Name
    repetition: int
    rate: float | None
    events_per_second: float
    share: float
    p50: float | None
    p99: float | None
    p999: float | None
    acknowledged: int
    cpu: float | None
    calls: float | None
    uploads: float | None
    upload_bytes: float | None
    insert_bytes: float | None
    billed_row_bytes: float | None
    peak_memory: int | None
    rejected: dict[int, int]
    resent: int
    generator_busy: float

    @property
    def is_sustained(self) -> bool:
        """Whether the implementation kept up with the arrivals."""
        return self.share >= SUSTAINED_SHARE and self.p99 is not None and self.p99 < SUSTAINED_P99

    @property
    def is_limited_by_generator(self) -> bool:
        """Whether the load generator had no more to give, so that the implementation may be capable of more."""
        return self.generator_busy >= GENERATOR_LIMIT


def percentile(latencies: Sequence[float], share: float, count: int | None = None) -> float | None:
    """Return the latency that a share of all requests does not exceed (nearest rank).

    Args:
        latencies: Sorted latencies of the requests that were answered.
        share: 0 to 1.
        count: Number of all requests, if there are more: the others took forever.

    Returns:
        None for forever.
    """
    count = len(latencies) if count is None else count
    rank = max(1, math.ceil(share * count - 1e-9))
    return latencies[rank - 1] if rank <= len(latencies) else None


def run(scenario: Scenario, server: Server, drive: Drive, cloud: StandIn, repetition: int) -> Cell:
    """Measure a cell.

    Raises:
        LostEvents: Rows and acknowledgements differ.
        WorkerReplaced: The function's worker is not the same as before.
    """
    cloud.reset(scenario.insert_ms, scenario.upload_ms)
    has_peak = False
    with contextlib.suppress(OSError):
        server.processes.forget_peak()
        has_peak = True
    pids = server.processes.pids
    cpu = server.processes.cpu()
    driven = drive(server.url, scenario.kind, scenario.load)
    counts = settled(cloud)
    if server.processes.pids != pids:
        raise WorkerReplaced(f"{scenario.name}, {server.name}: a process of the function ended during the measurement")
    cpu = server.processes.cpu() - cpu
    if server.name != "empty":
        check(driven, counts, f"{scenario.name}, {server.name}")
    latencies = sorted(driven.latencies)
    of_all = driven.arrived if isinstance(scenario.load, Open) else len(latencies) + sum(driven.rejected.values())

    def of_10_000(amount: float) -> float | None:
        return amount * 10_000 / driven.acknowledged if driven.acknowledged else None

    return Cell(
        scenario=scenario.name,
        of=server.name,
        repetition=repetition,
        rate=scenario.load.rate if isinstance(scenario.load, Open) else None,
        events_per_second=driven.answered / driven.seconds if driven.answered else 0.0,
        share=driven.share,
        p50=percentile(latencies, 0.5, of_all),
        p99=percentile(latencies, 0.99, of_all),
        p999=percentile(latencies, 0.999, of_all),
        acknowledged=driven.acknowledged,
        cpu=of_10_000(cpu),
        calls=of_10_000(counts.calls),
        uploads=of_10_000(counts.uploads),
        upload_bytes=of_10_000(counts.upload_bytes),
        insert_bytes=of_10_000(counts.insert_bytes),
        billed_row_bytes=of_10_000(counts.billed_row_bytes),
        peak_memory=server.processes.peak() if has_peak else None,
        rejected=driven.rejected,
        resent=driven.resent,
        generator_busy=driven.busy,
    )


def settled(cloud: StandIn, seconds: float = 30.0) -> Counts:
    """Return what has arrived once nothing more does: a rejected request may still be written."""
    deadline = time.monotonic() + seconds
    before = cloud.counts()
    while time.monotonic() < deadline:
        time.sleep(0.05)
        counts = cloud.counts()
        if counts == before and not cloud.in_flight():
            return counts
        before = counts
    raise TimeoutError(f"calls still arrive after {seconds:.0f} s")


def check(driven: Driven, counts: Counts, what: str) -> None:
    """Check that every acknowledged event is a row, and that every row is of an event that was sent.

    Raises:
        LostEvents: An event is missing, or a row is of no event.
    """
    rows, letters = sum(counts.rows.values()), counts.rows.get("dead_letters", 0)
    most = driven.sent + driven.resent
    if driven.acknowledged == most:
        good = rows == driven.acknowledged and letters == driven.bad_acknowledged
    else:
        good = driven.acknowledged <= rows <= most and letters >= driven.bad_acknowledged
    if not (good and counts.uploads):
        raise LostEvents(
            f"{what}: {driven.acknowledged} events acknowledged ({driven.bad_acknowledged} bad), {most} sent;"
            f" {rows} rows ({letters} dead letters), {counts.uploads} objects"
        )
