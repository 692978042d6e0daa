"""The queue of the group commit: order, batches, expiry and acknowledgements."""

import asyncio
from typing import Any

import pytest

from functions.core.message import Message
from functions.ingest.batch_writer import NotDurable
from functions.ingest.event_queue import EventQueue, Failure, QueuedEvent, resolve
from functions.ingest.scheduler import QueueState
from functions.settings import Settings
from tests.support.samples import NOW

SIZE = 100


def queue(*arrivals: float, size: int = SIZE, **changes: Any) -> EventQueue:
    """Return a queue of events that arrived at these times."""
    events = EventQueue(Settings(archive_bucket="archive", **changes))
    for arrived in arrivals:
        events.append(QueuedEvent(Message(b"", {}, f"{arrived:g}", NOW), size, arrived, asyncio.Future()))
    return events


def ids(events: list[QueuedEvent]) -> list[str]:
    return [event.message.message_id for event in events]


async def test_a_batch_has_the_first_events_in_order() -> None:
    events = queue(1, 2, 3)
    assert ids(events.next_batch(2, arrived_since=0).events) == ["1", "2"]
    assert events.state == QueueState(1, is_full=False, oldest=3)
    assert ids(events.next_batch(2, arrived_since=0).events) == ["3"]
    assert len(events) == 0


async def test_a_batch_has_at_most_the_rows_of_the_settings() -> None:
    assert ids(queue(1, 2, 3, batch_rows=2).next_batch(9, arrived_since=0).events) == ["1", "2"]


@pytest.mark.parametrize(("batch_bytes", "events"), [(1, 1), (199, 1), (200, 2), (299, 2), (300, 3)])
async def test_a_batch_has_at_least_one_event_and_else_at_most_its_bytes(batch_bytes: int, events: int) -> None:
    assert len(queue(1, 2, 3, batch_bytes=batch_bytes).next_batch(9, arrived_since=0).events) == events


async def test_events_that_waited_too_long_are_expired_and_do_not_count() -> None:
    batch = queue(1, 2, 3, 4).next_batch(1, arrived_since=3)
    assert (ids(batch.expired), ids(batch.events)) == (["1", "2"], ["3"])


@pytest.mark.parametrize(
    ("events", "limits", "is_full"),
    [
        (1, {"batch_rows": 2}, False),
        (2, {"batch_rows": 2}, True),
        (1, {"batch_bytes": SIZE + 1}, False),
        (1, {"batch_bytes": SIZE}, True),
    ],
)
async def test_a_queue_is_full_by_rows_or_by_bytes(events: int, limits: dict[str, int], is_full: bool) -> None:
    assert queue(*range(events), **limits).is_full == is_full


async def test_removed_events_free_the_queue() -> None:
    events = queue(1, 2, 3, batch_bytes=2 * SIZE)
    full = [events.is_full]
    while events:
        events.pop_last()
        full.append(events.is_full)
    assert full == [True, True, False, False]


async def test_a_batch_no_longer_counts() -> None:
    events = queue(1, 2, batch_bytes=2 * SIZE)
    events.next_batch(1, arrived_since=0)
    assert (len(events), events.is_full) == (1, False)


async def test_an_acknowledgement_is_resolved_once() -> None:
    ack: asyncio.Future[Failure | None] = asyncio.Future()
    failure = Failure(NotDurable, "no flush was free in time")
    assert resolve(ack, failure)
    assert not resolve(ack)
    assert await ack == failure


async def test_a_cancelled_request_is_not_resolved() -> None:
    ack: asyncio.Future[Failure | None] = asyncio.Future()
    ack.cancel()
    assert not resolve(ack)
