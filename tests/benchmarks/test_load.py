"""The load generator counts what a server does, whatever it does."""

import asyncio
import dataclasses

import pytest

from benchmarks.cells import LostEvents, check
from benchmarks.generator import drive
from benchmarks.load import Closed, Driven, Open
from fake_google.metered import Counts
from tests.support.scripted_server import CLOSING, NO_CONTENT, UNAVAILABLE, server


async def yes(_: int) -> bytes:
    return NO_CONTENT


def test_a_closed_loop_keeps_its_connections() -> None:
    with server(yes) as url:
        driven = drive(url, "inventory", Closed(4, 0.3, ramp=0.1))
    assert driven.connections == 4
    assert driven.acknowledged == driven.sent > 20
    assert driven.answered == len(driven.latencies) < driven.acknowledged
    assert driven.rejected == {}


def test_responses_other_than_2xx_are_counted_as_rejected() -> None:
    async def every_third(number: int) -> bytes:
        return UNAVAILABLE if number % 3 == 0 else NO_CONTENT

    with server(every_third) as url:
        driven = drive(url, "inventory", Closed(1, 0.3, ramp=0.0))
    assert driven.rejected == {503: driven.sent // 3}
    assert driven.acknowledged == driven.sent - driven.sent // 3


def test_connection_closed_between_requests_is_replaced() -> None:
    with server(yes, requests_of_a_connection=5) as url:
        driven = drive(url, "inventory", Closed(3, 0.3, ramp=0.0))
    assert driven.acknowledged == driven.sent > 20
    assert driven.rejected == {}
    assert driven.connections >= driven.sent // 5


def test_a_connection_that_the_server_says_it_closes_is_replaced() -> None:
    async def closing(_: int) -> bytes:
        return CLOSING

    with server(closing) as url:
        driven = drive(url, "inventory", Closed(2, 0.2, ramp=0.0))
    assert driven.acknowledged == driven.sent == driven.connections
    assert driven.resent == 0


def test_broken_connection_is_not_an_acknowledgement() -> None:
    async def breaking(number: int) -> bytes:
        return b"" if number == 1 else NO_CONTENT

    with server(breaking) as url:
        driven = drive(url, "inventory", Closed(1, 0.2, ramp=0.0))
    assert driven.rejected == {0: 1}
    assert driven.acknowledged == driven.sent - 1


def test_open_loop_latency_begins_at_the_arrival() -> None:
    async def slowly(_: int) -> bytes:
        await asyncio.sleep(0.2)
        return NO_CONTENT

    with server(slowly) as url:
        driven = drive(url, "inventory", Open(200, 0.5))
    assert driven.arrived == driven.acknowledged == driven.answered
    assert driven.connections > 20
    assert min(driven.latencies) >= 0.2


def test_late_response_is_acknowledged_but_not_answered_in_time() -> None:
    async def late(number: int) -> bytes:
        await asyncio.sleep(2.0 if number == 1 else 0.0)
        return NO_CONTENT

    with server(late) as url:
        driven = drive(url, "inventory", Open(100, 0.3))
    assert driven.acknowledged == driven.arrived
    assert driven.answered == driven.arrived - 1


def driven(acknowledged: int, sent: int, bad: int = 0) -> Driven:
    with server(yes) as url:
        measured = drive(url, "inventory", Closed(1, 0.01, ramp=0.0))
    return dataclasses.replace(measured, acknowledged=acknowledged, sent=sent, bad_acknowledged=bad, resent=0)


@pytest.mark.parametrize(
    ("acknowledged", "sent", "rows"),
    [
        (100, 100, {"orders": 99}),
        (100, 100, {"orders": 101}),
        (100, 100, {"orders": 99, "dead_letters": 1}),
        (100, 120, {"orders": 99}),
        (100, 120, {"orders": 121}),
    ],
)
def test_rows_that_do_not_fit_the_acknowledgements_end_the_run(
    acknowledged: int, sent: int, rows: dict[str, int]
) -> None:
    with pytest.raises(LostEvents, match=f"{acknowledged} events acknowledged"):
        check(driven(acknowledged, sent), Counts(uploads=1, rows=rows), "a cell")


def test_rows_that_fit_are_fine() -> None:
    check(driven(100, 100, bad=2), Counts(uploads=1, rows={"orders": 98, "dead_letters": 2}), "a cell")
    check(driven(100, 120), Counts(uploads=1, rows={"orders": 110}), "a cell")


def test_rejected_requests_count_in_the_duration() -> None:
    """One request is in flight and every second one is rejected: the rate is that of the whole time."""

    async def every_second(number: int) -> bytes:
        return UNAVAILABLE if number % 2 else NO_CONTENT

    with server(every_second) as url:
        driven = drive(url, "inventory", Closed(1, 0.3, ramp=0.0))
    assert driven.rejected
    assert driven.seconds == 0.3
