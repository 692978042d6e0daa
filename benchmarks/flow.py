"""An instance as a queue: what its group commit makes of events that arrive by Poisson, by discrete events.

It repeats the rules of `functions/commit.py`, and takes its numbers; a test holds it against that code, another against
what was measured.
"""

import dataclasses
import functools
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
from functions.commit import INTERVAL, INTERVAL_OF_MANY, MANY, MAX_ARCHIVING, MAX_FLUSHES
from functions.settings import Settings

_SETTINGS = Settings(archive_bucket="archive")
_LINGER = _SETTINGS.linger_ms / 1000

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


def run(instance: Instance, moments: Iterable[float]) -> tuple[list[float], list[int]]:
    """Let events arrive at these moments, which are in order.

    Returns:
        Seconds that each event took, and events in each flush.
    """
    latencies: list[float] = []
    sizes: list[int] = []
    coming = iter(moments)
    arrival = next(coming, math.inf)
    waiting: deque[float] = deque()
    flushes: list[tuple[float, float]] = []  # when each is in the archive, and when it ends
    now, begun, lingered = -math.inf, -math.inf, math.inf
    while waiting or arrival < math.inf:
        now = min(arrival, lingered, *(moment for flush in flushes for moment in flush if moment > now))
        if arrival <= now:
            waiting.append(arrival)
            arrival = next(coming, math.inf)
        flushes = [flush for flush in flushes if flush[1] > now]
        lingered = math.inf
        while waiting and len(flushes) < MAX_FLUSHES:
            archiving = sum(archived > now for archived, _ in flushes)
            if archiving >= MAX_ARCHIVING:
                break
            if flushes and len(waiting) < instance.batch:
                moment = waiting[0] + _LINGER
                if not archiving:
                    moment = min(moment, begun + INTERVAL)
                if len(waiting) >= MANY:
                    moment = min(moment, begun + INTERVAL_OF_MANY)
                if moment > now:
                    lingered = moment
                    break
            begun = now
            sizes.append(min(len(waiting), instance.batch))
            cpu = instance.flush_cpu + sizes[-1] * instance.event_cpu / 2
            archived = now + cpu + instance.upload
            flushes.append((archived, archived + instance.insert))
            latencies += [flushes[-1][1] - waiting.popleft() + instance.event_cpu / 2 for _ in range(sizes[-1])]
    return latencies, sizes


@functools.cache
def flow(instance: Instance, rate: float) -> Flow:
    """What comes of a rate: the same each time."""
    latencies, sizes = run(instance, arrivals(Open(rate, _EVENTS / rate)))
    flushes = len(sizes) / len(latencies)
    mean = statistics.fmean(latencies)
    p50, p99 = (percentile(sorted(latencies), share) or math.inf for share in (0.5, 0.99))
    return Flow(rate, flushes, mean, p50, p99, rate * (instance.event_cpu + flushes * instance.flush_cpu))
