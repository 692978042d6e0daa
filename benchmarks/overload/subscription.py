"""A push subscription as Pub/Sub's: delivers messages until they are acknowledged."""

import asyncio
import collections
import contextlib
import dataclasses
import heapq
import time
import urllib.parse
from collections.abc import Sequence
from random import Random
from typing import Self

from benchmarks.connection import Connection, Request
from benchmarks.events import Body, event_id

ACK_DEADLINE = 60.0
"""Seconds that the endpoint has to answer a delivery."""

_SHORTEST_SLEEP = 0.001
"""Minimum seconds between two looks at the messages."""


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses before a message is redelivered: they double from the minimum to the maximum.

    Attributes:
        minimum: Seconds before the second delivery.
        maximum: Maximum seconds, without jitter.
        jitter: Maximum share of a pause that is added to it at random.
    """

    minimum: float = 1.0
    maximum: float = 10.0
    jitter: float = 0.2

    def pause(self, deliveries: int, rng: Random) -> float:
        """Return the seconds to wait after so many deliveries."""
        pause = min(self.minimum * 2.0 ** min(deliveries - 1, 32), self.maximum)
        return pause * rng.uniform(1.0, 1.0 + self.jitter)

    def scaled(self, pace: float) -> Self:
        """Return the backoff with all times multiplied."""
        return dataclasses.replace(self, minimum=self.minimum * pace, maximum=self.maximum * pace)


@dataclasses.dataclass(slots=True)
class Deliveries:
    """Counts of the messages and their deliveries so far.

    Attributes:
        offered: Messages that were published.
        acknowledged: Messages that were acknowledged.
        deliveries: Deliveries, the first one of each message among them.
        rejected: Answers other than 2xx by status; 0: no answer within the deadline, or a broken connection.
    """

    offered: int = 0
    acknowledged: int = 0
    deliveries: int = 0
    rejected: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass(slots=True)
class _Delivery:
    """A delivery in flight."""

    number: int
    expiry: asyncio.TimerHandle
    has_expired: bool = False


class Subscription:
    """Pushes messages to an endpoint, each with an event of its own.

    Of the messages that are due, the oldest is delivered first.

    Args:
        url: The endpoint.
        bodies: Bodies of the messages, in turn.
        backoff: Pauses before a redelivery.
        max_in_flight: Maximum deliveries in flight.
        ack_deadline: Seconds after which a delivery without an answer ends.
    """

    def __init__(
        self,
        url: str,
        bodies: Sequence[Body],
        backoff: Backoff,
        max_in_flight: int,
        ack_deadline: float = ACK_DEADLINE,
    ) -> None:
        address = urllib.parse.urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._head = b"POST / HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\ncontent-length: " % (
            address.netloc.encode()
        )
        self._bodies = bodies
        self._backoff = backoff
        self._max_in_flight = max_in_flight
        self._ack_deadline = ack_deadline
        self._rng = Random(1)  # noqa: S311 - the same jitter in each run
        self._loop = asyncio.get_running_loop()
        self._ready: list[int] = []  # a heap of the messages that may be delivered
        self._backing_off: list[tuple[float, int]] = []  # a heap of the others, by the time that they are due
        self._attempts: dict[int, int] = {}
        self._free: list[Connection] = []
        self._in_flight: dict[Connection, _Delivery] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_drained = asyncio.Event()
        self.so_far = Deliveries()
        self.event_ids: set[str] = set()
        """Ids of the events that were acknowledged."""

    @property
    def in_flight(self) -> int:
        """Deliveries in flight."""
        return len(self._in_flight)

    @property
    def backlog(self) -> int:
        """Messages that are neither acknowledged nor in flight."""
        return len(self._ready) + len(self._backing_off)

    async def publish(self, arrivals: Sequence[float]) -> None:
        """Publish a message at each of these seconds from now; return after the last one.

        Other calls may wait meanwhile: what is late is published at once, so that the rate holds.
        """
        started = time.monotonic()
        for number, at in enumerate(arrivals):
            remaining = started + at - time.monotonic()
            if remaining > 0:
                await asyncio.sleep(max(remaining, _SHORTEST_SLEEP))
            self.so_far.offered += 1
            self._is_drained.clear()
            heapq.heappush(self._ready, number)
            self._deliver()

    async def redeliver(self) -> None:
        """Deliver messages whose pause has ended; runs until it is cancelled."""
        while True:
            await asyncio.sleep(10 * _SHORTEST_SLEEP)
            self._deliver()

    async def drained(self, seconds: float) -> bool:
        """Wait until all messages are acknowledged, but not longer than so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_drained.wait()
        return self._is_drained.is_set()

    def close(self) -> None:
        """Close all connections and deliver nothing more."""
        self._max_in_flight = 0
        for connection in [*self._free, *self._in_flight]:
            connection.close()

    def _deliver(self) -> None:
        """Deliver as many messages as may be in flight."""
        now = time.monotonic()
        while self._backing_off and self._backing_off[0][0] <= now:
            _, number = heapq.heappop(self._backing_off)
            heapq.heappush(self._ready, number)
        while self._ready and len(self._in_flight) < self._max_in_flight:
            number = heapq.heappop(self._ready)
            self._attempts[number] = self._attempts.get(number, 0) + 1
            self.so_far.deliveries += 1
            body = self._bodies[number % len(self._bodies)].push(number)
            self._send(number, Request(now, self._head + b"%d\r\n\r\n" % len(body) + body, is_bad=False))

    def _send(self, number: int, request: Request) -> None:
        connection = self._free_connection()
        is_new = connection is None
        if connection is None:
            connection = Connection(self._answered, self._lost)
        expiry = self._loop.call_later(self._ack_deadline, self._expire, connection)
        self._in_flight[connection] = _Delivery(number, expiry)
        connection.send(request)
        if is_new:
            task = self._loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _free_connection(self) -> Connection | None:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        return None

    async def _connect(self, connection: Connection) -> None:
        try:
            await self._loop.create_connection(lambda: connection, self._host, self._port)
        except OSError:
            self._lost(connection)

    def _expire(self, connection: Connection) -> None:
        """End a delivery without an answer."""
        self._in_flight[connection].has_expired = True
        connection.close()

    def _answered(self, connection: Connection, status: int) -> None:
        connection.request = None
        delivery = self._in_flight.pop(connection, None)
        if delivery is None:  # an answer to no request: 408 before the server closes the connection
            return
        delivery.expiry.cancel()
        if connection.is_open:
            self._free.append(connection)
        if 200 <= status < 300:
            self.so_far.acknowledged += 1
            self.event_ids.add(event_id(delivery.number))
            del self._attempts[delivery.number]
            if self.so_far.acknowledged == self.so_far.offered:
                self._is_drained.set()
        else:
            self._reject(delivery.number, status)
        self._deliver()

    def _lost(self, connection: Connection) -> None:
        request, connection.request = connection.request, None
        delivery = self._in_flight.pop(connection, None)
        if delivery is None or request is None:
            return
        delivery.expiry.cancel()
        if connection.has_answered and not request.is_again and not delivery.has_expired:
            # The server closed an idle connection while the request was on its way: send it again, as all clients do.
            request.is_again = True
            self._send(delivery.number, request)
            return
        self._reject(delivery.number, 0)
        self._deliver()

    def _reject(self, number: int, status: int) -> None:
        """Put a message back."""
        self.so_far.rejected[status] += 1
        due = time.monotonic() + self._backoff.pause(self._attempts[number], self._rng)
        heapq.heappush(self._backing_off, (due, number))
