"""Admission: how many events may be in flight while services keep up, fail, and recover."""

import pytest

from functions.ingest.admission import PROBE, Admission, FlushResult, Overloaded
from tests.support.settings import settings


def admission(events: int = 0, **changes: int) -> Admission:
    """Return an admission with so many events of one byte in flight."""
    made = Admission(settings(**{"max_in_flight": 250, **changes}))
    for _ in range(events):
        made.admit(1)
    return made


def end(made: Admission, started: float, events: int, durable: int, *, overloaded: bool, waited: float = 0.0) -> None:
    """Let a flush of so many events end a second after its start."""
    made.flush_ended(FlushResult(started, started + 1, waited, made.events, events, durable, overloaded))
    made.release(events, events)


def fail(made: Admission, started: float, events: int, durable: int = 0) -> None:
    end(made, started, events, durable, overloaded=True)


def succeed(made: Admission, started: float, events: int, *, waited: float = 0.0) -> None:
    end(made, started, events, events, overloaded=False, waited=waited)


def test_requests_being_read_and_events_share_the_limits() -> None:
    made = admission(2, max_in_flight=5, max_in_flight_bytes=100)
    made.read(1)
    made.read(1)
    with pytest.raises(Overloaded, match="4 events, 4 bytes in flight"):
        made.read_more(97)
    made.admit(1)
    with pytest.raises(Overloaded, match="5 events"):
        made.read(1)
    made.has_read(1)
    made.has_read(1)
    made.release(3, 3)
    assert (made.reading, made.events, made.size, made.rejected) == (0, 0, 0, 2)


def test_a_message_alone_is_admitted_whatever_its_size() -> None:
    made = admission(max_in_flight_bytes=10)
    made.admit(1_000)
    with pytest.raises(Overloaded):
        made.admit(1)


def test_after_a_total_failure_only_a_probe_is_admitted() -> None:
    made = admission(250)
    fail(made, 0, 100)
    assert made.limit == PROBE
    with pytest.raises(Overloaded, match="limited to 10 while the services recover"):
        made.admit(1)
    made.release(150, 150)
    for _ in range(PROBE):
        made.admit(1)
    with pytest.raises(Overloaded):
        made.admit(1)


def test_a_small_max_in_flight_is_never_exceeded() -> None:
    made = admission(3, max_in_flight=3)
    fail(made, 0, 3)
    assert made.limit == 3
    made.admit(1)
    succeed(made, 1, 1)
    assert made.limit == 3


def test_the_limit_doubles_to_where_it_failed_then_grows_slowly() -> None:
    made = admission(200)
    fail(made, 0, 200)
    limits = []
    for second in range(1, 12):
        events = int(made.limit)
        for _ in range(events):
            made.admit(1)
        succeed(made, second, events)
        limits.append(made.limit)
    assert limits[:4] == [20, 40, 80, 160]
    assert limits[4:6] == [180, 202.5]
    assert limits[-1] == 250


def test_at_low_traffic_a_failure_is_soon_forgotten() -> None:
    made = admission(1)
    fail(made, 0, 1)
    for second in range(1, 100):
        made.admit(1)
        succeed(made, second, 1)
    assert made.limit > 100


def test_more_than_half_of_a_flush_failed_shrinks_the_limit() -> None:
    made = admission(200)
    fail(made, 0, events=100, durable=40)
    assert made.limit == pytest.approx(140)


def test_a_table_that_fails_does_not_shrink_the_limit() -> None:
    made = admission(200)
    fail(made, 0, events=100, durable=60)
    assert made.limit == 250


def test_a_failure_beside_successes_is_no_total_failure() -> None:
    made = admission(200)
    succeed(made, 1, 0 + 50)
    for _ in range(50):
        made.admit(1)
    fail(made, 1, 100)
    assert made.limit == 100


def test_flushes_that_fail_together_are_one_failure() -> None:
    made = admission(200)
    fail(made, 1, events=50, durable=10)
    limit = made.limit
    fail(made, 0.5, 50)
    fail(made, 1.5, 50)
    assert made.limit == limit


def test_events_that_wait_long_shrink_the_limit_before_any_fails() -> None:
    made = admission(200)
    succeed(made, 0, 50, waited=9.0)
    assert made.limit == 150


def test_errors_that_are_no_overload_do_not_change_the_limit() -> None:
    made = admission(200)
    end(made, 0, 100, 0, overloaded=False)
    assert made.limit == 250
