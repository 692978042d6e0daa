"""The flush scheduler: when the next flush starts beside those that run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.ingest.scheduler import (
    BACKLOG_INTERVAL,
    BACKLOG_THRESHOLD,
    INTERVAL,
    MAX_ARCHIVING,
    MAX_FLUSHES,
    SHARE,
    FlushScheduler,
    QueueState,
)

NOW = 100.0
FEW = QueueState(1, is_full=False, oldest=100.0)
MANY = QueueState(BACKLOG_THRESHOLD, is_full=False, oldest=100.0)
FULL = QueueState(500, is_full=True, oldest=100.0)


def scheduler(duration: float = 0.0, running: int = 0, timeout: float = 25.0) -> FlushScheduler:
    """Return a scheduler whose flushes have taken so long, with flushes running since second 100."""
    made = FlushScheduler(linger=0.5, flush_timeout=timeout)
    for number in range(3 if duration else 0):
        end(made, number, duration)
    for _ in range(running):
        made.started(100.0)
        made.archived()
    return made


def end(made: FlushScheduler, started: float, seconds: float, *, overloaded: bool = False) -> None:
    """Let a flush start and end."""
    made.started(started)
    made.archived()
    made.ended(started, started + seconds, seconds, is_overloaded=overloaded)


def test_next_flush_starts_immediately_without_a_running_flush() -> None:
    assert scheduler(duration=20).next_start(FEW, NOW) == -math.inf


@pytest.mark.parametrize(("queue", "interval"), [(FEW, INTERVAL), (MANY, BACKLOG_INTERVAL)], ids=["few", "many"])
@pytest.mark.parametrize("duration", [0.0, 0.01, 0.14])
def test_fast_services_have_fixed_intervals(queue: QueueState, interval: float, duration: float) -> None:
    assert scheduler(duration, running=1).next_start(queue, NOW) == pytest.approx(100 + interval)


@pytest.mark.parametrize("queue", [FEW, MANY, FULL], ids=["few", "many", "full"])
def test_slow_services_get_about_two_concurrent_flushes(queue: QueueState) -> None:
    assert scheduler(2.0, running=1).next_start(queue, NOW) == pytest.approx(100 + 2.0 * SHARE)


@pytest.mark.parametrize(("duration", "running", "share"), [(2.0, 1, 125), (2.0, 0, 250), (0.2, 1, 250)])
def test_concurrent_slow_flushes_have_equal_sizes(duration: float, running: int, share: int) -> None:
    assert scheduler(duration, running).fair_share(250) == share


def test_one_slow_flush_among_fast_ones_changes_nothing() -> None:
    made = scheduler(0.14)
    end(made, 10, 8.0)
    made.started(100.0)
    made.archived()
    assert made.next_start(FEW, NOW) == pytest.approx(100 + INTERVAL)


def test_an_event_lingers_while_a_flush_is_being_archived() -> None:
    made = scheduler(0.14)
    made.started(100.0)
    assert made.next_start(FEW, NOW) == 100.5
    assert made.next_start(MANY, NOW) == pytest.approx(100 + BACKLOG_INTERVAL)
    assert scheduler(2.0, running=1).next_start(FEW._replace(oldest=90.0), NOW) == 92.0


def test_an_interval_keeps_flushes_apart_that_fill_no_batch() -> None:
    made = FlushScheduler(linger=0.5, flush_timeout=25, interval=2.0)
    assert made.next_start(FEW, NOW) == -math.inf, "the first event after a pause does not wait"
    end(made, 100, 0.14)
    assert made.next_start(FEW, NOW) == made.next_start(MANY, NOW) == 102.0
    assert made.next_start(FULL, NOW) == -math.inf
    made.started(102.0)
    assert made.next_start(FEW, NOW) == made.next_start(MANY, NOW) == 104.0, "beside a running flush too"


def test_concurrent_flushes_stay_within_the_limit() -> None:
    assert scheduler(running=MAX_FLUSHES).next_start(FULL, NOW) is None
    assert scheduler(running=MAX_FLUSHES - 1).next_start(FULL, NOW) is not None
    made = scheduler()
    for _ in range(MAX_ARCHIVING):
        made.started(100.0)
    assert made.next_start(FULL, NOW) is None


def test_slow_flushes_halve_the_concurrency_and_fast_ones_raise_it() -> None:
    made = scheduler(timeout=3.0)
    end(made, 0, 1.1)
    made.started(100.0)
    made.started(100.0)
    made.archived()
    assert made.next_start(FULL, NOW) is None
    for number in range(5):
        end(made, number, 0.14)
    assert made.next_start(FULL, NOW) is not None


def test_an_overloaded_flush_is_load_until_a_later_one_succeeds() -> None:
    made = scheduler()
    end(made, 98, 1.0, overloaded=True)
    made.started(99.2)
    made.archived()
    assert made.next_start(FULL, 99.5) == 100.0, "two may run, and one is abandoned until then"
    made.ended(99.2, 99.3, 0.1, is_overloaded=False)
    made.started(99.4)
    made.archived()
    assert made.next_start(FULL, 99.5) != 100.0


def test_an_overloaded_flush_is_forgotten_after_as_long_again() -> None:
    made = scheduler()
    end(made, 0, 5.0, overloaded=True)
    made.started(3600.0)
    made.archived()
    assert made.next_start(FULL, 3600.0) is not None


@given(st.lists(st.tuples(st.floats(0.001, 30), st.booleans()), max_size=30), st.sampled_from([FEW, MANY, FULL]))
def test_idle_function_always_flushes_immediately(flushes: list[tuple[float, bool]], queue: QueueState) -> None:
    made = scheduler()
    for number, (seconds, overloaded) in enumerate(flushes):
        end(made, float(number), seconds, overloaded=overloaded)
    assert made.next_start(queue, NOW) == -math.inf
