"""The load generator itself: requests over connections that are kept, in a process of its own."""

import asyncio
import collections
import contextlib
import functools
import gc
import math
import multiprocessing
import time
import urllib.parse
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import uvloop

from benchmarks.connection import Connection, Request
from benchmarks.events import Bodies, Kind
from benchmarks.load import Closed, Driven, Open, arrivals
from benchmarks.machine import OTHER_CORE, Busy, on_core

MAX_CONNECTIONS = 1_000
"""Maximum connections, as Cloud Run lets into an instance (https://cloud.google.com/run/docs/about-concurrency)."""

GRACE = 1.0
"""Seconds after the last arrival that count as within the run: an event that arrives at its end has a chance too."""

DRAIN = 30.0
"""Maximum seconds to wait for the answers to requests in flight."""


class _Generator:
    """One run of the load generator. Times are `time.monotonic`: uvloop's own clock has whole milliseconds."""

    def __init__(self, url: str, bodies: Bodies) -> None:
        address = urllib.parse.urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._head = b"POST / HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\ncontent-length: " % (
            address.netloc.encode()
        )
        self._bodies = bodies
        self._loop = asyncio.get_running_loop()
        self._free: list[Connection] = []
        self._waiting: collections.deque[Request] = collections.deque()
        self._opened = self._open = self._in_flight = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._latencies = array("d")
        self._arrived = self._sent = self._acknowledged = self._bad = self._resent = 0
        self._rejected: collections.Counter[int] = collections.Counter()
        self._counts_from, self._counts_until = 0.0, math.inf
        self._next: Callable[[], None] = lambda: None

    def _new(self, due: float) -> Request:
        body, is_bad = next(self._bodies)
        self._arrived += 1
        return Request(due, self._head + b"%d\r\n\r\n" % len(body) + body, is_bad)

    def _dispatch(self, request: Request) -> None:
        """Send it over a free connection or a new one, else let it wait."""
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                self._in_flight += 1
                self._sent += 1
                connection.send(request)
                return
        if self._open < MAX_CONNECTIONS:
            self._connect(request)
        else:
            self._waiting.append(request)

    def _connect(self, request: Request) -> None:
        self._open += 1
        self._opened += 1
        self._in_flight += 1
        self._sent += not request.is_again
        connection = Connection(self._done, self._lost)
        connection.request = request

        async def connect() -> None:
            try:
                await self._loop.create_connection(lambda: connection, self._host, self._port)
            except OSError:
                self._lost(connection)

        task = self._loop.create_task(connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _done(self, connection: Connection, status: int) -> None:
        request, connection.request = connection.request, None
        if request is None:  # an answer that nobody asked for, 408 before the server closes
            return
        now = time.monotonic()
        self._in_flight -= 1
        if 200 <= status < 300:
            self._acknowledged += 1
            self._bad += request.is_bad
            if self._counts_from <= now <= self._counts_until:
                self._latencies.append(now - request.due)
        else:
            self._rejected[status] += 1
        if connection.is_open:
            self._free.append(connection)
        self._go_on()

    def _lost(self, connection: Connection) -> None:
        self._open -= 1
        request, connection.request = connection.request, None
        if request is None:
            if self._waiting:
                self._dispatch(self._waiting.popleft())
            return
        self._in_flight -= 1
        if connection.has_answered and not request.is_again:
            # The server had closed the connection while the request was on its way: send it again, as all clients do.
            request.is_again = True
            self._resent += 1
            self._connect(request)
            return
        self._rejected[0] += 1
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self._dispatch(self._waiting.popleft())
        else:
            self._next()
        if not self._in_flight:
            self._idle.set()

    async def closed(self, load: Closed) -> Driven:
        """Keep so many in flight."""
        started = time.monotonic()
        until = started + load.ramp + load.seconds
        self._counts_from, self._counts_until = started + load.ramp, until

        def next_one() -> None:
            now = time.monotonic()
            if now < until:
                self._dispatch(self._new(now))

        self._next = next_one
        busy = Busy()
        for _ in range(load.in_flight):
            next_one()
        await asyncio.sleep(load.ramp + load.seconds)
        share = busy.share()
        await self._drain()
        # With one at a time their latencies are the time that they took, if all were answered 2xx: a window would cut
        # the last one off.
        has_all = load.in_flight == 1 and not self._rejected
        seconds = sum(self._latencies) if has_all else load.seconds
        return self._driven(seconds, self._arrived, share)

    async def open(self, load: Open) -> Driven:
        """Let requests arrive."""
        started = time.monotonic() + 0.01
        self._counts_until = started + load.seconds + GRACE
        due = [started + at for at in arrivals(load)]
        busy = Busy()
        position = 0
        while position < len(due):
            now = time.monotonic()
            while position < len(due) and due[position] <= now:
                self._dispatch(self._new(due[position]))
                position += 1
            if position < len(due):
                await asyncio.sleep(max(0.0, due[position] - time.monotonic()))
        if self._in_flight or self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._counts_until - time.monotonic()):
                    while self._in_flight or self._waiting:
                        self._idle.clear()
                        await self._idle.wait()
        share = busy.share()
        self._waiting.clear()
        await self._drain()
        return self._driven(load.seconds, len(due), share)

    async def _drain(self) -> None:
        """Wait for the answers to the requests in flight."""
        self._idle.clear()
        if self._in_flight:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN):
                    await self._idle.wait()
        self._rejected[0] += self._in_flight
        self._next = lambda: None
        for connection in self._free:
            connection.close()

    def _driven(self, seconds: float, arrived: int, busy: float) -> Driven:
        return Driven(
            seconds,
            len(self._latencies),
            arrived,
            self._sent,
            self._acknowledged,
            self._bad,
            dict(+self._rejected),
            self._resent,
            self._opened,
            self._latencies,
            busy,
        )


_bodies = functools.cache(Bodies)


def drive(url: str, kind: Kind, load: Closed | Open) -> Driven:
    """Send pushes to a function."""

    async def run() -> Driven:
        generator = _Generator(url, _bodies(kind))
        return await (generator.closed(load) if isinstance(load, Closed) else generator.open(load))

    bodies = _bodies(kind)
    next(bodies)
    gc.collect()
    gc.freeze()
    return uvloop.run(run())


@contextlib.contextmanager
def driver() -> Iterator[Callable[[str, Kind, Closed | Open], Driven]]:
    """`drive`, in a process of its own while the context lasts."""
    with on_core(OTHER_CORE):
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        pool.submit(int).result()  # starts the process, on this core
    with pool:
        yield lambda url, kind, load: pool.submit(drive, url, kind, load).result()
