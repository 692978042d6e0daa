"""The statistics of measurements are right."""

import itertools
import math
import statistics

import pytest

from benchmarks.cells import percentile
from benchmarks.load import Open, arrivals
from benchmarks.spread import NotMeasured, Spread, ratio
from benchmarks.targets import Target


def test_arrivals_depend_on_the_seed_and_match_the_rate() -> None:
    first, again = [*arrivals(Open(500, 20, seed=3))], [*arrivals(Open(500, 20, seed=3))]
    assert first == again != [*arrivals(Open(500, 20, seed=4))]
    assert first == sorted(first)
    assert 0 < first[0] < first[-1] < 20
    assert len(first) == pytest.approx(10_000, abs=4 * math.sqrt(10_000))


def test_the_time_between_arrivals_is_exponential() -> None:
    times = [*arrivals(Open(1000, 20))]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(0.001, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.001, rel=0.05)
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(1 / math.e, rel=0.05)


def test_a_percentile_is_a_latency_that_was_measured() -> None:
    latencies = [*map(float, range(1, 1001))]
    assert [percentile(latencies, share) for share in (0.5, 0.99, 0.999)] == [500, 990, 999]
    assert percentile([7.0], 0.999) == 7.0
    assert percentile([], 0.5) is None


def test_unanswered_requests_count_as_infinite_latency() -> None:
    latencies = [*map(float, range(1, 96))]
    assert percentile(latencies, 0.95, 100) == 95
    assert percentile(latencies, 0.99, 100) is None


def test_a_ratio_is_taken_within_each_repetition() -> None:
    # The machine is twice as slow in the second one, for both.
    assert ratio({1: 10.0, 2: 5.0, 3: 12.0}, {1: 5.0, 2: 2.5, 3: 4.0}) == Spread(2.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("over", "under", "why_not"),
    [
        ({}, {1: 3.0}, "a: not run"),
        ({1: 3.0}, {}, "b: not run"),
        ({1: 10.0, 2: 9.0}, {2: 3.0}, "a and b: not measured in the same repetitions"),
        ({1: 10.0, 2: 9.0}, {1: 3.0, 2: None}, "b: no value in 1 of 2 repetitions"),
        ({1: None}, {1: 3.0}, "a: no value in 1 of 1 repetitions"),
        ({1: 10.0}, {1: 0.0}, "b: the value is 0"),
    ],
)
def test_a_ratio_needs_both_values_in_each_repetition(
    over: dict[int, float | None], under: dict[int, float | None], why_not: str
) -> None:
    with pytest.raises(NotMeasured, match=why_not):
        ratio(over, under, ("a", "b"))


@pytest.mark.parametrize(
    ("median", "least", "most", "is_met"),
    [(10, 10, None, True), (9.9, 10, None, False), (0.05, None, 1 / 20, True), (math.inf, None, 1.3, False)],
)
def test_a_target_is_met_by_the_median(median: float, least: float | None, most: float | None, is_met: bool) -> None:
    assert Target("", Spread(median, 0, 100), least, most).is_met is is_met


def test_unmeasured_target_is_neither_met_nor_missed() -> None:
    assert Target("", None, 10).is_met is None
