"""The queue of a service of limited capacity."""

import collections
import dataclasses
import time
from collections.abc import Callable

import msgspec

type CallLater = Callable[[float, Callable[[], None]], object]
"""Calls a function after some seconds, as `asyncio.AbstractEventLoop.call_later` does."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """Capacity of a service for requests.

    Attributes:
        request_seconds: Seconds for each request.
        row_seconds: Seconds for each row of a request.
        servers: Maximum requests that are served at the same time; None for no limit.
    """

    request_seconds: float = 0.0
    row_seconds: float = 0.0
    servers: int | None = None

    def seconds(self, rows: int) -> float:
        """Return the time that a request with so many rows takes."""
        return self.request_seconds + rows * self.row_seconds


class Disturbance(msgspec.Struct, frozen=True, kw_only=True):
    """Disturbance of a service.

    Attributes:
        is_stalled: Whether no request is started; those that arrive are queued.
        slowdown: Factor on the time of each request that is started.
    """

    is_stalled: bool = False
    slowdown: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    arrived: float
    rows: int
    done: Callable[[], None]


class ServiceQueue:
    """Serves requests in the order of their arrival, whether or not the client still waits for the answer.

    A request that has waited starts at the moment when the one before it was due to end, even if the event loop is
    late: the capacity is the same on a busy machine.

    Args:
        capacity: Capacity for requests.
        call_later: Calls a function after some seconds.
        clock: Gives the current time in seconds.
    """

    def __init__(self, capacity: Capacity, call_later: CallLater, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._call_later = call_later
        self._clock = clock
        self._disturbance = Disturbance()
        self._waiting: collections.deque[_Job] = collections.deque()
        self._serving = 0

    @property
    def queued(self) -> int:
        """Requests that wait for a server."""
        return len(self._waiting)

    def submit(self, rows: int, done: Callable[[], None]) -> None:
        """Append a request; `done` is called when it has been served."""
        now = self._clock()
        self._waiting.append(_Job(now, rows, done))
        self._start(now)

    def change_capacity(self, capacity: Capacity) -> None:
        """Set what the requests that start from now on take; this ends a disturbance."""
        self._capacity = capacity
        self.disturb(Disturbance())

    def disturb(self, disturbance: Disturbance) -> None:
        """Set what is wrong from now on. Requests that are being served end when they were due to."""
        self._disturbance = disturbance
        self._start(self._clock())

    def _start(self, at: float) -> None:
        servers = self._capacity.servers
        while self._waiting and not self._disturbance.is_stalled and (servers is None or self._serving < servers):
            job = self._waiting.popleft()
            seconds = self._capacity.seconds(job.rows) * self._disturbance.slowdown
            if not seconds:
                job.done()
                continue
            self._serving += 1
            self._serve(job, max(at, job.arrived) + seconds)

    def _serve(self, job: _Job, end: float) -> None:
        def finish() -> None:
            self._serving -= 1
            job.done()
            self._start(end)

        self._call_later(max(0.0, end - self._clock()), finish)
