"""A simulation of an overload: the real group commit, in virtual time, on services of limited capacity.

Pub/Sub delivers events at a steady rate. Then a service stalls, and later it is slow for a while. The simulation shows
how soon goodput returns to the offered rate, and how many rows were inserted for each event: `benchmarks/overload/`
measures the same with the served function.
"""

import asyncio
import collections
import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, cast

import urllib3

from benchmarks import virtual_time
from benchmarks.virtual_time import VirtualClock
from functions.archive.writer import Archive
from functions.core.message import Message
from functions.ingest.admission import Overloaded
from functions.ingest.batch_writer import NotDurable
from functions.ingest.flush import FlushServices
from functions.ingest.flush_report import Outcome
from functions.ingest.group_commit import GroupCommit
from functions.ingest.retry import Call, Service
from functions.ingest.warehouse import InsertResult, Warehouse
from functions.settings import Settings
from functions.system import System


class Phase(NamedTuple):
    """A time in which a service is slower.

    Attributes:
        start: Seconds since the start.
        end: Seconds since the start.
        speed: Factor on the service's speed; 0: it stalls.
    """

    start: float
    end: float
    speed: float


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """A service that serves one request at a time, in the order of arrival, and finishes each one it was sent.

    Attributes:
        request_seconds: Seconds for each request.
        row_seconds: Seconds for each of its rows.
        phases: Phases in which it is slower, in order.
    """

    request_seconds: float
    row_seconds: float
    phases: Sequence[Phase] = ()

    def finish(self, start: float, rows: int) -> float:
        """Return when a request is done that the service begins at a time."""
        work, now = self.request_seconds + rows * self.row_seconds, start
        for phase in self.phases:
            if now < phase.start:
                done = min(work, phase.start - now)
                work, now = work - done, now + done
            if work and phase.start <= now < phase.end:
                possible = (phase.end - now) * phase.speed
                if possible >= work:
                    return now + work / phase.speed
                work, now = work - possible, phase.end
        return now + work


@dataclasses.dataclass(frozen=True, slots=True)
class Overload:
    """Parameters of a simulation.

    Attributes:
        bigquery: BigQuery.
        storage: Cloud Storage.
        rate: Events offered per second.
        seconds: Seconds in which events are offered.
        flush_timeout: The function's setting.
        in_flight: Maximum number of deliveries in flight.
        backoff: Minimum and maximum seconds between two deliveries of an event.
        seed: Seed of everything random.
    """

    bigquery: Capacity
    storage: Capacity
    rate: float
    seconds: float
    flush_timeout: float = 25.0
    in_flight: int = 250
    backoff: tuple[float, float] = (1.0, 10.0)
    seed: int = 1


@dataclasses.dataclass(slots=True)
class Timeline:
    """Counts of the events by whole second.

    Attributes:
        acknowledged: Events acknowledged.
        rejected: Deliveries answered with 429.
        failed: Deliveries answered with 503.
        rows: Rows that BigQuery has written.
        offered: Number of events offered.
    """

    acknowledged: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    rejected: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    failed: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    rows: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    offered: int = 0

    def goodput(self, start: float, end: float) -> float:
        """Return the acknowledged events per second between two times."""
        return sum(self.acknowledged[second] for second in range(round(start), round(end))) / (end - start)

    def recovery(self, since: float, until: float, rate: float, window: int = 5) -> float:
        """Return the seconds until goodput is 95 % of a rate, for a window and on average until the end of a time.

        It is infinite if that is never so.
        """
        for start in range(round(since), round(until) - window):
            if min(self.goodput(start, start + window), self.goodput(start, until)) >= 0.95 * rate:
                return start - since
        return math.inf

    @property
    def rows_per_event(self) -> float:
        """Rows written for each event that was acknowledged."""
        return self.rows.total() / max(self.acknowledged.total(), 1)


class _Request(NamedTuple):
    """A request that a writer wants to make."""

    is_upload: bool
    rows: int
    seconds: float


class _Queue:
    """The queue in front of a service."""

    def __init__(self, capacity: Capacity, clock: VirtualClock, served: Callable[[float, int], None]) -> None:
        self._capacity = capacity
        self._clock = clock
        self._served = served
        self._free = 0.0
        self._service = Service()

    async def send(self, rows: int, seconds: float) -> None:
        """Send a request and retry it as `functions.ingest.http_client.Api.post` does."""
        call = Call(self._service, seconds, self._clock(), random.uniform)
        while True:
            started = self._clock()
            timeout = call.timeout(started)
            self._free = self._capacity.finish(max(self._free, started), rows)
            self._served(self._free, rows)
            if self._free - started <= timeout:
                await asyncio.sleep(self._free - started)
                self._service.answered(self._free - started)
                return
            await asyncio.sleep(timeout)
            self._service.answer_time.timed_out(timeout)
            pause = call.pause(self._clock(), after_timeout=True)
            if pause is None:
                raise urllib3.exceptions.TimeoutError("no answer in time")
            await asyncio.sleep(pause)


class _Archive:
    def name(self, _: datetime) -> str:
        return "object"

    def uri(self, name: str) -> str:
        return name

    def write(self, _: str, outcomes: Sequence[Outcome], seconds: float) -> _Request:
        return _Request(is_upload=True, rows=len(outcomes), seconds=seconds)


class _Warehouse:
    def insert(self, _: str, records: Sequence[object], seconds: float) -> _Request:
        return _Request(is_upload=False, rows=len(records), seconds=seconds)


class _Calls:
    """Awaits the simulated services instead of a thread.

    Args:
        storage: Cloud Storage.
        bigquery: BigQuery.
    """

    def __init__(self, storage: _Queue, bigquery: _Queue) -> None:
        self._storage = storage
        self._bigquery = bigquery

    async def run[Result](self, call: Callable[..., Result], *arguments: object) -> Result:
        """Run a call, and return its result."""
        request = cast("_Request", call(*arguments))
        await (self._storage if request.is_upload else self._bigquery).send(request.rows, request.seconds)
        return cast("Result", request.rows if request.is_upload else InsertResult({}, {}))


def simulate(overload: Overload, outcomes: Sequence[Outcome]) -> Timeline:
    """Simulate an overload.

    Args:
        overload: Parameters of the simulation.
        outcomes: Outcomes of the events, in turn: rows of each table.
    """
    random.seed(overload.seed)  # of the pauses between retries
    return virtual_time.run(lambda clock: _Simulation(overload, outcomes, clock).run())


class _Simulation:
    def __init__(self, overload: Overload, outcomes: Sequence[Outcome], clock: VirtualClock) -> None:
        self._overload = overload
        self._clock = clock
        self._outcomes = outcomes
        self._random = random.Random(overload.seed)  # noqa: S311 - a simulation
        self._timeline = Timeline()
        self._places = asyncio.Semaphore(overload.in_flight)
        settings = Settings(archive_bucket="archive", flush_timeout=overload.flush_timeout)
        archive, warehouse = cast("Archive", _Archive()), cast("Warehouse", _Warehouse())
        by_id = {str(number): outcome for number, outcome in enumerate(outcomes)}
        calls = _Calls(
            _Queue(overload.storage, clock, lambda _at, _rows: None), _Queue(overload.bigquery, clock, self._written)
        )
        services = FlushServices(
            lambda message, _: by_id[message.message_id], archive, warehouse, calls, System(monotonic=clock)
        )
        self._commit = GroupCommit(services, settings)

    def _written(self, at: float, rows: int) -> None:
        self._timeline.rows[int(at)] += rows

    async def run(self) -> Timeline:
        async with asyncio.TaskGroup() as group:
            while self._clock() < self._overload.seconds:
                await asyncio.sleep(self._random.expovariate(self._overload.rate))
                group.create_task(self._deliver(self._timeline.offered % len(self._outcomes)))
                self._timeline.offered += 1
        return self._timeline

    async def _deliver(self, which: int) -> None:
        """Deliver an event until it is acknowledged."""
        message = Message(b"", {}, str(which), datetime.now(UTC))
        shortest, longest = self._overload.backoff
        backoff = shortest
        while True:
            async with self._places:
                try:
                    await self._commit(message)
                except (Overloaded, NotDurable) as error:
                    counts = self._timeline.rejected if isinstance(error, Overloaded) else self._timeline.failed
                    counts[int(self._clock())] += 1
                else:
                    self._timeline.acknowledged[int(self._clock())] += 1
                    return
            await asyncio.sleep(backoff * self._random.uniform(0.5, 1.0))
            backoff = min(2 * backoff, longest)


def recovery_of(service: str, *, flush_timeout: float, seed: int = 1) -> Overload:
    """Return an overload: 80 % of the capacity is offered; a service stalls for 30 s, later it is slow for 60 s.

    Args:
        service: Service that fails: `bigquery`, `storage` or `both`.
        flush_timeout: The function's setting.
        seed: Seed of everything random.
    """
    phases = (Phase(20, 50, 0.0), Phase(100, 160, 0.25))
    # Of 250 events in flight, half are in a flush. With a request for each of three tables, these 125 rows take 0.62 s.
    bigquery = Capacity(0.04, 0.004, phases if service != "storage" else ())
    storage = Capacity(0.04, 0.0035, phases if service != "bigquery" else ())
    return Overload(bigquery, storage, rate=160.0, seconds=220.0, flush_timeout=flush_timeout, seed=seed)
