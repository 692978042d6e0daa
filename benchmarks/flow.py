"""An instance as a queue: a simulation by discrete events of what its group commit does with Poisson arrivals.

The flushes are scheduled by the product's own `FlushScheduler`. One test compares the simulation with the group commit
itself, another one with what was measured.
"""

import dataclasses
import functools
import heapq
import math
import statistics
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.cells import percentile
from benchmarks.load import Open, arrivals
from benchmarks.plan import INSERT_MS, RATES, UPLOAD_MS, opened, sustained
from benchmarks.results import Results
from benchmarks.spread import NotMeasured
from functions.flush_scheduler import FlushScheduler, Queue
from functions.settings import Settings

_SETTINGS = Settings(archive_bucket="archive")

_EVENTS = 20_000


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """What an instance takes.

    Attributes:
        event_cpu: Seconds of CPU for an event.
        flush_cpu: Seconds of CPU for a flush, besides.
        batch: Events in a flush, at most.
        upload: Seconds until Cloud Storage answers.
        insert: Seconds until BigQuery answers.
    """

    event_cpu: float = 0.0
    flush_cpu: float = 0.0
    batch: int = _SETTINGS.batch_rows
    upload: float = UPLOAD_MS / 1000
    insert: float = INSERT_MS / 1000

    @classmethod
    def of(cls, results: Results) -> "Instance":
        """As measured: the line through CPU over flushes, at all rates that one instance sustained.

        Raises:
            NotMeasured: There are less than two such rates, or the line says that events or flushes take no CPU.
        """
        scenarios = [results.of(name, "sluice") for name in (*map(opened, RATES), sustained("sluice"))]
        points = [
            (_median(cell.uploads for cell in cells), _median(cell.cpu for cell in cells))
            for cells in scenarios
            if cells and all(cell.is_sustained for cell in cells)
        ]
        if len(points) < 2:
            raise NotMeasured("less than two rates were measured that an instance sustains")
        line = statistics.linear_regression(*zip(*points, strict=True))
        if line.intercept <= 0 or line.slope < 0:
            raise NotMeasured("the CPU of events and of flushes cannot be told apart by the rates")
        batch = min(_SETTINGS.batch_rows, int(_SETTINGS.batch_bytes / results.message_bytes))
        return cls(line.intercept / 10_000, line.slope, batch)


def _median(values: Iterable[float | None]) -> float:
    """Return the median of the values; a cell that sustained its rate has them."""
    return statistics.median(value for value in values if value is not None)


class Flow(NamedTuple):
    """What comes of a rate.

    Attributes:
        rate: Events per second that arrive at the instance.
        flushes: For each event.
        mean: Seconds from arrival to acknowledgement.
        p50: The same that half of the events do not exceed.
        p99: The same for 99 %.
        busy: Share of the vCPU that is used.
    """

    rate: float
    flushes: float
    mean: float
    p50: float
    p99: float
    busy: float

    @property
    def in_flight(self) -> float:
        """Events at a time, on average."""
        return self.rate * self.mean


class _Flush(NamedTuple):
    """The times of a flush."""

    archived: float
    ended: float
    started: float


def run(instance: Instance, moments: Iterable[float]) -> tuple[list[float], list[int]]:
    """Let events arrive at these moments, which are in order.

    Returns:
        Seconds that each event took, and events in each flush.
    """
    scheduler = FlushScheduler(_SETTINGS.linger_ms / 1000, _SETTINGS.flush_timeout)
    latencies: list[float] = []
    sizes: list[int] = []
    coming = iter(moments)
    arrival = next(coming, math.inf)
    waiting: deque[float] = deque()
    archiving: list[_Flush] = []
    inserting: list[_Flush] = []
    now, start = -math.inf, math.inf
    while waiting or arrival < math.inf or inserting or archiving:
        archived = archiving[0].archived if archiving else math.inf
        ended = inserting[0].ended if inserting else math.inf
        now = min(arrival, start, archived, ended)
        if arrival <= now:
            waiting.append(arrival)
            arrival = next(coming, math.inf)
        if archived <= now:
            scheduler.archived()
            heapq.heappush(inserting, heapq.heappop(archiving))
        if ended <= now:
            flush = heapq.heappop(inserting)
            scheduler.ended(flush.started, now, instance.upload + instance.insert, is_overloaded=False)
        start = math.inf
        while waiting:
            queue = Queue(len(waiting), len(waiting) >= instance.batch, waiting[0])
            moment = scheduler.next_start(queue, now)
            if moment is None:
                break
            if moment > now:
                start = moment
                break
            scheduler.started(now)
            sizes.append(min(len(waiting), instance.batch))
            cpu = instance.flush_cpu + sizes[-1] * instance.event_cpu / 2
            archived = now + cpu + instance.upload
            ended = archived + instance.insert
            heapq.heappush(archiving, _Flush(archived, ended, now))
            latencies += [ended - waiting.popleft() + instance.event_cpu / 2 for _ in range(sizes[-1])]
    return latencies, sizes


@functools.cache
def flow(instance: Instance, rate: float) -> Flow:
    """What comes of a rate: the same each time."""
    latencies, sizes = run(instance, arrivals(Open(rate, _EVENTS / rate)))
    flushes = len(sizes) / len(latencies)
    mean = statistics.fmean(latencies)
    p50, p99 = (percentile(sorted(latencies), share) or math.inf for share in (0.5, 0.99))
    return Flow(rate, flushes, mean, p50, p99, rate * (instance.event_cpu + flushes * instance.flush_cpu))
