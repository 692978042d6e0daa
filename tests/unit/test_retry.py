"""Retries: how long an attempt may take, how many retries there are, and that all of it ends in time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.ingest.retry import AnswerTime, Call, RetryBudget, Service, within


@given(st.floats(0.1, 100), st.floats(0, 1000))
def test_the_last_attempt_ends_in_time(seconds: float, expected: float) -> None:
    starts, timeout = within(seconds, expected)
    assert starts + timeout <= seconds * (1 + 1e-9)
    assert timeout >= min(expected, seconds)


def test_an_attempt_may_take_as_long_as_the_service_does() -> None:
    answer_time = AnswerTime()
    for _ in range(20):
        answer_time.answered(4.0)
    assert 4.0 <= answer_time.usual < 5.0
    assert within(9.0, answer_time.expected).timeout == answer_time.expected


def test_after_a_timeout_the_next_attempt_may_take_twice_as_long() -> None:
    answer_time = AnswerTime()
    answer_time.answered(0.1)
    answer_time.timed_out(3.0)
    assert answer_time.expected == 6.0
    assert answer_time.usual < 1
    answer_time.answered(0.1)
    assert answer_time.expected < 1


def test_the_budget_is_fifty_retries_and_a_tenth_of_the_successes() -> None:
    budget = RetryBudget()
    assert [budget.take(0.0) for _ in range(51)] == [True] * 50 + [False]
    for _ in range(25):
        budget.succeeded()
    assert [budget.take(0.0) for _ in range(3)] == [True] * 2 + [False]


def test_a_retry_after_a_timeout_costs_as_much_as_five() -> None:
    budget = RetryBudget()
    assert [budget.take(0.0, after_timeout=True) for _ in range(11)] == [True] * 10 + [False]


def test_budget_recovers_with_time() -> None:
    budget = RetryBudget()
    while budget.take(0.0):
        pass
    assert [budget.take(now) for now in (4.0, 5.1, 5.2)] == [False, True, False]


def test_a_call_is_retried_until_its_time_is_up() -> None:
    call = Call(Service(), 9.0, 100.0, random.uniform)
    assert call.timeout(100.0) == 3.0
    assert call.pause(103.0) is not None
    assert call.timeout(108.0) == 1.0
    assert call.pause(106.0) is None


@pytest.mark.parametrize(("options", "retries"), [({}, 50), ({"after_timeout": True}, 10)])
def test_a_call_has_fewer_retries_after_timeouts(options: dict[str, bool], retries: int) -> None:
    call = Call(Service(), 1000.0, 0.0, random.uniform)
    pauses = [call.pause(0.0, **options) for _ in range(retries + 1)]
    assert [pause is None for pause in pauses] == [False] * retries + [True]


def test_a_call_is_not_retried_without_budget() -> None:
    service = Service()
    while service.retries.take(0.0):
        pass
    assert Call(service, 9.0, 0.0, random.uniform).pause(0.0) is None


def test_a_retry_that_would_not_be_answered_in_time_is_not_made() -> None:
    service = Service()
    for _ in range(20):
        service.answered(6.0)
    assert Call(service, 9.0, 0.0, random.uniform).pause(4.0) is None


@pytest.mark.parametrize("attempts", [1, 4])
def test_pauses_double(attempts: int) -> None:
    call = Call(Service(), 1000.0, 0.0, random.uniform)
    pauses = [call.pause(0.0) or 0.0 for _ in range(attempts)]
    assert all(pause <= 0.1 * 2**number for number, pause in enumerate(pauses))
