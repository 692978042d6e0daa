"""A discrete-event simulation of the group commit of an instance with Poisson arrivals.

The flushes are scheduled by the product's own `FlushScheduler`. One test compares the simulation with the group commit
itself, another one with what was measured.
"""

import dataclasses
import functools
import heapq
import itertools
import math
import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from functions.ingest.scheduler import FlushScheduler, QueueState
from functions.settings import Settings
from sluice.cost.measured import Measured

_SETTINGS = Settings(archive_bucket="archive")

_EVENTS = 20_000


def arrivals(rate: float, seed: int = 1) -> Iterator[float]:
    """Yield the seconds from the start at which events arrive by Poisson, without end."""
    rng = Random(seed)  # noqa: S311 - the same arrivals each time
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        yield at


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """The speed of an instance.

    Attributes:
        event_cpu: Seconds of CPU for an event.
        flush_cpu: Seconds of CPU for a flush, besides.
        upload: Seconds until Cloud Storage answers.
        insert: Seconds until BigQuery answers.
        batch: Maximum events in a flush.
        interval: The setting `flush_interval`.
    """

    event_cpu: float
    flush_cpu: float
    upload: float
    insert: float
    batch: int = _SETTINGS.batch_rows
    interval: float = _SETTINGS.flush_interval

    @classmethod
    def of(cls, measured: Measured, message_bytes: float, interval: float = 0.0) -> "Instance":
        """Return an instance as measured, for messages of a size."""
        return cls(
            measured.event_cpu + measured.byte_cpu * max(0.0, message_bytes - measured.message_bytes),
            measured.flush_cpu,
            measured.upload,
            measured.insert,
            max(1, min(_SETTINGS.batch_rows, int(_SETTINGS.batch_bytes / message_bytes))),
            interval,
        )


class Flow(NamedTuple):
    """The flushes, delays and load of an instance at a rate.

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
    scheduler = FlushScheduler(_SETTINGS.linger_ms / 1000, _SETTINGS.flush_timeout, instance.interval)
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
            queue = QueueState(len(waiting), len(waiting) >= instance.batch, waiting[0])
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
    """Return the flow at a rate. The simulation is deterministic."""
    latencies, sizes = run(instance, itertools.islice(arrivals(rate), _EVENTS))
    flushes = len(sizes) / len(latencies)
    mean = statistics.fmean(latencies)
    p50, p99 = (statistics.quantiles(latencies, n=100)[percent - 1] for percent in (50, 99))
    return Flow(rate, flushes, mean, p50, p99, rate * (instance.event_cpu + flushes * instance.flush_cpu))
