"""A service of limited capacity serves its queue in order; the clock is the test's own."""

import heapq
import itertools
from collections.abc import Callable

import pytest

from benchmarks.overload.scenarios import capacity
from fake_google.service_queue import Capacity, Disturbance, ServiceQueue


class Clock:
    """Calls what is due when the test lets time pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def __call__(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (self.now + seconds, next(self._numbers), call))

    def run(self, until: float = 1000.0, late: float = 0.0) -> None:
        """Let time pass; each call comes so many seconds late."""
        while self._calls and self._calls[0][0] + late <= until:
            due, _, call = heapq.heappop(self._calls)
            self.now = max(self.now, due + late)
            call()
        self.now = max(self.now, until)


class Service:
    """A queue with a record of when each request was served."""

    def __init__(self, **of: float | int | None) -> None:
        self.clock = Clock()
        made = Capacity(**of)  # type: ignore[arg-type]
        self.queue = ServiceQueue(made, self.clock.call_later, self.clock)
        self.served: list[tuple[str, float]] = []

    def submit(self, name: str, rows: int = 0) -> None:
        self.queue.submit(rows, lambda: self.served.append((name, round(self.clock.now, 6))))


def test_requests_are_served_one_after_the_other() -> None:
    service = Service(request_seconds=1.0, row_seconds=0.1, servers=1)
    for name, rows in (("a", 10), ("b", 0), ("c", 20)):
        service.submit(name, rows)
    assert service.queue.queued == 2
    service.clock.run()
    assert service.served == [("a", 2.0), ("b", 3.0), ("c", 6.0)]


def test_servers_work_at_the_same_time() -> None:
    service = Service(request_seconds=1.0, servers=2)
    for name in "abc":
        service.submit(name)
    service.clock.run()
    assert service.served == [("a", 1.0), ("b", 1.0), ("c", 2.0)]


def test_without_a_limit_all_requests_are_served_at_once() -> None:
    service = Service(request_seconds=1.0)
    for name in "abc":
        service.submit(name)
    service.clock.run()
    assert service.served == [("a", 1.0), ("b", 1.0), ("c", 1.0)]


def test_a_request_that_takes_no_time_is_served_at_once() -> None:
    service = Service()
    service.submit("a")
    assert service.served == [("a", 0.0)]


def test_a_stalled_service_starts_nothing_until_it_goes_on() -> None:
    service = Service(request_seconds=1.0, servers=1)
    service.submit("started before")
    service.queue.disturb(Disturbance(is_stalled=True))
    service.submit("queued")
    service.clock.run(until=10)
    assert service.served == [("started before", 1.0)]
    service.queue.disturb(Disturbance())
    service.clock.run()
    assert service.served[1:] == [("queued", 11.0)]


def test_a_slow_service_takes_its_factor_as_long() -> None:
    service = Service(request_seconds=1.0, row_seconds=0.1, servers=1)
    service.queue.disturb(Disturbance(slowdown=4))
    service.submit("a", rows=10)
    service.clock.run(until=8)
    assert service.served == [("a", 8.0)]


def test_a_new_capacity_ends_a_disturbance() -> None:
    service = Service(request_seconds=1.0, servers=1)
    service.queue.disturb(Disturbance(is_stalled=True))
    service.submit("a")
    service.queue.change_capacity(Capacity(request_seconds=3.0, servers=1))
    service.clock.run()
    assert service.served == [("a", 3.0)]


def test_a_late_event_loop_does_not_lower_the_capacity() -> None:
    service = Service(request_seconds=1.0, servers=1)
    for name in "abc":
        service.submit(name)
    service.clock.run(late=0.5)
    assert service.served == [("a", 1.5), ("b", 2.5), ("c", 3.5)]


def test_a_request_never_starts_before_it_arrives() -> None:
    service = Service(request_seconds=1.0, servers=1)
    service.submit("a")
    service.clock.call_later(1.2, lambda: service.submit("b"))
    service.clock.run(late=0.5)
    assert dict(service.served)["b"] >= 1.7 + 1.0


def test_capacity_counts_one_insert_for_each_table() -> None:
    inserts = Capacity(request_seconds=0.010, row_seconds=0.001, servers=1)
    assert capacity(inserts, Capacity(), batch=250) == pytest.approx(250 / 0.280)
    uploads = Capacity(request_seconds=0.5, servers=2)
    assert capacity(inserts, uploads, batch=250) == pytest.approx(893, rel=0.01)
    assert capacity(inserts, uploads, batch=100) == pytest.approx(400)
