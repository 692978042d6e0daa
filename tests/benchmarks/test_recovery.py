"""Overload, simulated: after a service was slow or did not answer, goodput returns by itself, at every capacity."""

import logging
from collections.abc import Iterator

import pytest

from benchmarks.recovery import Capacity, Overload, Phase, recovery_of, simulate
from tests.support.samples import NOW, event, message, process

TYPES = ["order"] * 3 + ["inventory"] * 2 + ["user_activity"] * 5
OUTCOMES = [process(message(event(name), event_id=f"e-{number}"), NOW) for number, name in enumerate(TYPES)]


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_a_request_takes_longer_while_its_service_is_slow() -> None:
    capacity = Capacity(0.5, 0.1, (Phase(10, 20, 0.0), Phase(30, 40, 0.25)))
    assert capacity.finish(0, rows=5) == 1.0
    assert capacity.finish(9.5, rows=5) == 20.5
    assert capacity.finish(15, rows=5) == 21.0
    assert capacity.finish(30, rows=5) == 34.0
    assert capacity.finish(38, rows=5) == 40.5


@pytest.mark.parametrize(
    "service", ["both", *(pytest.param(service, marks=pytest.mark.check) for service in ("bigquery", "storage"))]
)
@pytest.mark.parametrize("flush_timeout", [pytest.param(3.0, marks=pytest.mark.check), 25.0])
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.check) for seed in range(2, 6))])
def test_goodput_returns_within_30_s(service: str, flush_timeout: float, seed: int) -> None:
    overload = recovery_of(service, flush_timeout=flush_timeout, seed=seed)
    timeline = simulate(overload, OUTCOMES)
    assert timeline.goodput(5, 20) >= 0.95 * overload.rate
    assert timeline.recovery(50, 100, overload.rate) <= 30
    assert timeline.recovery(160, 220, overload.rate) <= 30
    assert timeline.rows_per_event < 1.5
    assert timeline.acknowledged.total() == timeline.offered


@pytest.mark.parametrize("milliseconds", [15, 40, 80])
def test_a_short_stall_does_not_turn_into_a_lasting_overload(milliseconds: int) -> None:
    """A warehouse that serves one insert at a time stalls for 10 s, with 3 s for a flush.

    With a fixed interval between flushes and unbounded retries, no event was acknowledged for 65 s after it.
    """
    bigquery = Capacity(milliseconds / 1000, 0.00005, (Phase(15, 25, 0.0),))
    timeline = simulate(Overload(bigquery, Capacity(0.0, 0.0), 100.0, 60.0, flush_timeout=3.0), OUTCOMES)
    assert timeline.recovery(25, 60, 100) <= 5
    assert timeline.rows_per_event < 1.1


@pytest.mark.parametrize("row_ms", [0.05, 1, 5])
@pytest.mark.parametrize("request_ms", [5, 40, 100])
def test_at_every_capacity_it_recovers(request_ms: float, row_ms: float) -> None:
    rows = 40
    flush = (3 * request_ms + rows * row_ms) / 1000
    phases = (Phase(10, 20, 0.0),)
    bigquery = Capacity(request_ms / 1000, row_ms / 1000, phases)
    rate = min(0.8 * rows / flush, 300)
    timeline = simulate(Overload(bigquery, Capacity(0.06, 0.0), rate, 60.0, in_flight=80, flush_timeout=10.0), OUTCOMES)
    assert timeline.recovery(20, 60, rate) <= 30
    assert timeline.rows_per_event < 1.5
    assert timeline.acknowledged.total() == timeline.offered
